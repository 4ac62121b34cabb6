"""The training step: one pure function, compiled once, its state donated."""

from collections.abc import Callable
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from mnistjax.data.batches import Batch, to_unit
from mnistjax.models.functional import ApplyFn, ApplyWithState, Params
from mnistjax.training.finite import nan_unless_finite
from mnistjax.training.freeze import Mask, merge, trainable_part
from mnistjax.training.gradients import Objective, gradient_sums, gradient_sums_with_state
from mnistjax.training.metrics import Metrics
from mnistjax.training.parallel import AXIS, over_mesh, over_mesh_as_one
from mnistjax.training.state import TrainState, TrainStep


def make_train_step(
    *,
    apply_fn: ApplyFn,
    tx: optax.GradientTransformation,
    preprocess: Callable[[Array], Array] = to_unit,
    micro_batch: int | None = None,
    frozen: Mask = False,
    label_smoothing: float = 0.0,
    seed: int = 0,
    mesh: Mesh | None = None,
) -> jax.stages.Wrapped:
    """Make the jitted `train_step(state, batch) -> (state, metrics)`; the state is donated.

    The loss is the mean softmax cross-entropy over the rows that count, so a padded batch gives
    the update of the smaller one; the metrics' loss is NaN where a gradient is not finite.
    `preprocess` turns raw uint8 pixels into what `apply_fn` wants, inside jit.

    `micro_batch`: the gradient is summed over portions of so many examples; by default portions
    that suit a CPU (`micro_batch_size`), and the whole batch elsewhere: the same to rounding, as
    long as `apply_fn` treats each example for itself. One with state (`with_state`), its key being
    `step_key(seed, step)`, is cut only if told to: each portion has its own statistics and key.

    `frozen`: a mask (`freeze_mask`) of what keeps its value; no gradient of it is ever computed.
    `tx` has to leave out the same leaves: `optax.selective_transform(tx, freeze_mask=frozen)`.
    `label_smoothing`: the share of every label that is spread evenly over all classes (Szegedy et
    al. 2016, arXiv:1512.00567); metrics are without it. `mesh`: its devices (`data_mesh`) share
    every batch; the update is that of one device to rounding, batch statistics included. Raises
    `UsageError` for a batch that does not divide (with state, every device then computes all).

    >>> from mnistjax.training.state import init_state
    >>> tx = optax.sgd(0.1)
    >>> linear = lambda params, images: images.reshape(len(images), -1) @ params["w"]
    >>> step = make_train_step(apply_fn=linear, tx=tx)
    >>> batch = Batch(jnp.full((2, 2, 2, 1), 255, jnp.uint8), jnp.array([0, 1]), jnp.ones(2, bool))
    >>> state, metrics = step(init_state({"w": jnp.zeros((4, 3))}, tx), batch)
    >>> int(state.step), round(metrics.loss, 4)
    (1, 1.0986)
    """
    make = partial(
        make_step,
        apply_fn=apply_fn,
        tx=tx,
        preprocess=preprocess,
        micro_batch=micro_batch,
        frozen=frozen,
        label_smoothing=label_smoothing,
        seed=seed,
        platform=None if mesh is None else mesh.devices.flat[0].platform,
    )
    if mesh is None or mesh.size == 1:
        return jax.jit(make(), donate_argnums=0)
    if isinstance(apply_fn, ApplyWithState):
        return over_mesh_as_one(make(), mesh=mesh)
    return over_mesh(make(axis=AXIS), mesh=mesh)


def make_step(  # noqa: PLR0913
    *,
    apply_fn: ApplyFn,
    tx: optax.GradientTransformation,
    preprocess: Callable[[Array], Array] = to_unit,
    micro_batch: int | None = None,
    frozen: Mask = False,
    label_smoothing: float = 0.0,
    seed: int = 0,
    axis: str | None = None,
    platform: str | None = None,
) -> TrainStep:
    """The pure step that `make_train_step` jits, for `jax.lax.scan`, `jax.pmap` and the like.

    `axis`: the name of a mapped axis over which the batch is divided; sums go over all of it, and
    a model with state has to take its statistics over it, too (`with_state(axis=...)`), else it is
    refused with `UsageError`. `platform`: what it will be compiled for, by default what JAX uses.
    """
    objective = Objective(apply_fn, preprocess, frozen, label_smoothing)
    sums = partial(gradient_sums, platform=platform)
    if isinstance(apply_fn, ApplyWithState):
        sums = partial(gradient_sums_with_state, seed=seed, axis=axis)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, metrics, model_state = sums(objective, state, batch, micro_batch=micro_batch)
        if axis is not None:
            grads, metrics = jax.lax.psum((grads, metrics), axis)
        scale = 1 / jnp.asarray(metrics.count, jnp.float32)
        grads = jax.tree.map(lambda g: g * scale.astype(g.dtype), grads)
        with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises a float to an int32
            updates, opt_state = tx.update(grads, state.opt_state, state.params)
        trainable = optax.apply_updates(trainable_part(state.params, frozen), updates)
        params = merge(cast(Params, trainable), state.params, frozen)
        new = TrainState(state.step + 1, params, opt_state, model_state)
        return new, nan_unless_finite(metrics, grads)

    return train_step
