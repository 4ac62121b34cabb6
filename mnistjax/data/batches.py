"""Batches from arrays that stay on the device: order from (seed, epoch), every example once."""

import math
from collections.abc import Generator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int32, Shaped, UInt32

from mnistjax.data.dataset import Split
from mnistjax.errors import DataError


class Batch(NamedTuple):
    """Images, labels, and which rows count: the last batch of an epoch is padded, not cut.

    Images are raw pixels of uint8, or the float32 maps that a frozen part made of them.
    """

    images: Shaped[Array, "batch height width channels"]
    labels: Shaped[Array, "batch *label"]
    mask: Bool[Array, " batch"]


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Batches that hold `count` examples, the ragged last one included.

    >>> steps_per_epoch(54_000, 128)
    422
    """
    return -(-count // batch_size)


# Named here, with the one setting it depends on, so that no setting of JAX changes an order: a run
# resumed under another default would see some examples of its epoch twice and others never.
IMPLEMENTATION = "threefry2x32"


def epoch_order(
    seed: int, epoch: int, *, count: int, batch_size: int
) -> Int32[Array, "steps batch"]:
    """A true permutation of `count` examples from (seed, epoch), in rows of `batch_size`.

    The last row is padded with `count`, which is no example. The permutation is that of
    `jax.random.permutation`, sorted on the host: XLA sorts 60,000 pairs in 22 ms on a CPU, NumPy
    in 2, and there are two such sorts.

    >>> epoch_order(0, 0, count=5, batch_size=2).shape
    (3, 2)
    """
    with jax.threefry_partitionable(True), jax.enable_x64(False):
        keys = _sort_keys(seed, epoch, count=count)
    order = np.arange(count)
    for key in keys:
        # A key and its place in one number: ties keep their order, as in a stable sort.
        places = np.sort(
            np.asarray(key).astype(np.uint64) << 32 | np.arange(count, dtype=np.uint64)
        )
        order = order[places.astype(np.uint32)]
    return _rows(order, batch_size)


@partial(jax.jit, static_argnames=("seed", "count"))
def _sort_keys(seed: int, epoch: int | Array, *, count: int) -> list[UInt32[Array, " count"]]:
    # As many rounds as make it unlikely that equal keys matter: 2 from 1,626 to 2.6 million.
    rounds = math.ceil(3 * math.log(count) / math.log(2**32 - 1)) if count > 1 else 0
    key = jax.random.fold_in(jax.random.key(seed, impl=IMPLEMENTATION), epoch)
    keys = []
    for _ in range(rounds):
        key, subkey = jax.random.split(key)
        keys.append(jax.random.bits(subkey, (count,)))
    return keys


def file_order(*, count: int, batch_size: int) -> Int32[Array, "steps batch"]:
    """0, 1, 2, ... in rows of `batch_size`, padded as in `epoch_order`: for evaluation."""
    return _rows(np.arange(count), batch_size)


def on_device(split: Split) -> tuple[Shaped[Array, "n h w c"], Shaped[Array, "n *label"]]:
    """Put a split on the device once, as uint8: all of MNIST is 47 MB."""
    return jax.device_put(split.images), jax.device_put(split.labels)


@jax.jit
def take_batch(
    images: Shaped[Array, "n h w c"],
    labels: Shaped[Array, "n *label"],
    row: Int32[Array | np.ndarray, " batch"],
) -> Batch:
    """The examples that `row` names; padding rows are zeros with `mask` False."""
    mask = jnp.asarray(row) < len(labels)
    return Batch(
        images.at[row].get(mode="fill", fill_value=0),
        labels.at[row].get(mode="fill", fill_value=0),
        mask,
    )


def epoch_batches(
    images: Shaped[Array, "n h w c"],
    labels: Shaped[Array, "n *label"],
    order: Int32[Array, "steps batch"],
    *,
    first: int = 0,
    padded: bool = True,
) -> Generator[Batch, None, None]:
    """The batches of `order` from number `first` on; not `padded`, the last one is smaller."""
    steps, size = order.shape
    # Rows of a jax array come by programs, compiled for 0.3 s an epoch's length: NumPy's do not.
    for number, row in enumerate(np.asarray(order)[first:], first):
        if number == steps - 1 and not padded:
            row = row[: len(labels) - number * size]
        yield take_batch(images, labels, row)


def to_unit(images: Shaped[Array, "*shape"]) -> Float32[Array, "*shape"]:
    """Pixels 0..255 to 0..1, inside jit: a quarter of the bytes cross the bus.

    Raises `DataError` for any dtype but uint8: what is in 0..1 already would be divided again.

    >>> to_unit(jnp.array([0, 255], jnp.uint8)).tolist()
    [0.0, 1.0]
    """
    if images.dtype != jnp.uint8:
        why = "are not the uint8 pixels 0..255 that to_unit divides by 255"
        fix = "pass such pixels, or `preprocess=lambda images: images` to make_train_step and"
        raise DataError(f"images of {images.dtype}", why, fix=f"{fix} make_eval_step")
    return images.astype(jnp.float32) / 255


def _rows(order: Shaped[np.ndarray, " n"], batch_size: int) -> Int32[Array, "steps batch"]:
    count = len(order)
    padded = np.pad(order, (0, -count % batch_size), constant_values=count)
    return jnp.asarray(padded.reshape(-1, batch_size), jnp.int32)
