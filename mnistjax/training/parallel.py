"""One step on all devices: each has its part of the batch, and all have the same state."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array

from mnistjax.data.batches import Batch
from mnistjax.data.placing import AXIS, BY_ROWS, EVERYWHERE, data_mesh
from mnistjax.errors import UsageError
from mnistjax.training.batch_size import check_divides
from mnistjax.training.metrics import Metrics
from mnistjax.training.state import TrainState, TrainStep

Tree = TypeVar("Tree")


def as_data_mesh(mesh: Mesh) -> Mesh:
    """`mesh`, of one axis of any name and type (`jax.make_mesh`), as `data_mesh` makes it.

    Raises `UsageError` for one of more axes: nothing here divides a model.
    """
    if len([size for size in mesh.shape.values() if size > 1]) > 1:
        why = "has more than one axis, and only the batch is divided"
        raise UsageError(f"`mesh` {dict(mesh.shape)}", why, fix="pass `mesh=data_mesh()`")
    return data_mesh([*mesh.devices.flat])


def mesh_if_several() -> Mesh | None:
    """The mesh of all devices, of every process; `None` where there is just one."""
    return data_mesh() if jax.device_count() > 1 else None


def replicate(tree: Tree, mesh: Mesh | None) -> Tree:
    """`tree` with every array on every device of `mesh`; where there is none, on its own.

    Committed to it, as what a checkpoint gives is: else the same function is compiled for both.
    """
    if mesh is None:
        return jax.device_put(tree, jax.tree.map(lambda leaf: leaf.sharding, tree))
    return jax.device_put(tree, NamedSharding(mesh, EVERYWHERE))


def sum_over(tree: Tree, axis: str) -> Tree:
    """The sum of every leaf over the mapped `axis`, as one array of each dtype.

    Between two processes on one machine's loopback Gloo takes 4.2 ms for 225 thousand floats in one
    array, and 33 in eight (a core each; with two 2.3 and 10). Devices of one process would not need
    it, but another program is rounded otherwise, and theirs are to be the same bits.
    """
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, tree))
    summed: list[Array] = [*leaves]
    for dtype in dict.fromkeys(leaf.dtype for leaf in leaves):  # in the same order everywhere
        places = [place for place, leaf in enumerate(leaves) if leaf.dtype == dtype]
        flat = [leaves[place].reshape(-1) for place in places]
        ends = list(accumulate(len(part) for part in flat))
        parts = jnp.split(jax.lax.psum(jnp.concatenate(flat), axis), ends[:-1])
        for place, part in zip(places, parts, strict=True):
            summed[place] = part.reshape(leaves[place].shape)
    return jax.tree.unflatten(structure, summed)


def over_mesh(step: TrainStep, *, mesh: Mesh, donate: bool = True) -> jax.stages.Wrapped:
    """`step`, made with `axis=AXIS`, jitted over `mesh`: `make_train_step(mesh=mesh)` is this.

    The batch is divided by rows, the state is on every device. Each device walks its
    own rows, so nothing but the sums of gradients and metrics crosses between devices. Raises
    `UsageError` for a batch that does not divide.
    """
    shares = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(EVERYWHERE, BY_ROWS),
        out_specs=EVERYWHERE,
        # The check would have every scan and custom gradient inside say what varies by device.
        check_vma=False,
    )

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        check_divides(len(batch.labels), mesh.size)
        return shares(state, batch)

    return _jit_over(mesh, train_step, donate)


def over_mesh_as_one(step: TrainStep, *, mesh: Mesh, donate: bool = True) -> jax.stages.Wrapped:
    """`step`, made without an axis, jitted over `mesh` as the one program it is on one device.

    For models whose examples depend on each other: the compiler divides the work, so statistics
    are those of the whole batch and random numbers those of one device. Of a batch that does not
    divide, such as an epoch's last, every device computes all.
    """
    same, rows = NamedSharding(mesh, EVERYWHERE), NamedSharding(mesh, BY_ROWS)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        layout = same if len(batch.labels) % mesh.size else rows
        return step(state, jax.lax.with_sharding_constraint(batch, layout))

    return _jit_over(mesh, train_step, donate)


def _jit_over(mesh: Mesh, train_step: TrainStep, donate: bool) -> jax.stages.Wrapped:
    """Jitted with the state on every device; where the batch lies is open."""
    same = NamedSharding(mesh, EVERYWHERE)
    layouts: dict[str, Any] = {"in_shardings": (same, None), "out_shardings": same}
    return jax.jit(train_step, **layouts, donate_argnums=donated(donate))


def donated(donate: bool) -> tuple[int, ...]:
    """Which arguments of a training step are given away: the state, or none."""
    return (0,) if donate else ()


def over_pmap(
    step: TrainStep, *, devices: Sequence[Any] | None = None, donate: bool = True
) -> TrainStep:
    """`step`, made with `axis=AXIS`, by `jax.pmap`: the same update as `over_mesh`, the older way.

    State and batch come and go as one device has them; the first step copies the state to all
    `devices` (by default all of this process). Raises `UsageError` for a batch that does not
    divide.
    """
    devices = list(jax.local_devices() if devices is None else devices)
    mapped = jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=None,
        devices=devices,
        donate_argnums=donated(donate),
    )

    def split(x: jax.Array) -> jax.Array:
        return x.reshape(len(devices), -1, *x.shape[1:])

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        check_divides(len(batch.labels), len(devices))
        return mapped(state, jax.tree.map(split, batch))

    return train_step


def by_rows(
    fn: Callable[[Any, Array], Array], *, mesh: Mesh | None
) -> Callable[[Any, Array], Array]:
    """`fn(constant, rows)`, which treats each row for itself, with the rows divided over `mesh`.

    Any number of rows: zeros fill up the last device's. `fn` itself where there is no mesh.
    """
    if mesh is None or mesh.size == 1:
        return fn
    specs = (EVERYWHERE, BY_ROWS), BY_ROWS
    share = jax.shard_map(fn, mesh=mesh, in_specs=specs[0], out_specs=specs[1], check_vma=False)

    def whole(constant: Any, rows: Array) -> Array:
        filling = [(0, -len(rows) % mesh.size)] + [(0, 0)] * (rows.ndim - 1)
        return share(constant, jnp.pad(rows, filling))[: len(rows)]

    return whole
