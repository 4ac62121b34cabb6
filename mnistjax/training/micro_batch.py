"""Sums over a batch in portions that suit a CPU."""

import math
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

from mnistjax.data.batches import Batch
from mnistjax.models.functional import ModelState
from mnistjax.ops.sharded import vary, varying

Sums = TypeVar("Sums")
# XLA runs an elementwise operation on several threads only where it makes more than 512 KB, and a
# batch of small matrix products never. So portions stay below that and two run side by side: on two
# cores the small CNN's step of 128 takes 8.8 ms with 22 images twice, 10.8 ms with 32 in turn.
CPU_PIXELS = 24 * 28 * 28
SIDE_BY_SIDE = 2
# Every portion transforms all kernels and sums all gradients anew, so many parameters want large
# portions, one after another: their operations fill the cores themselves (`tiling.chains`).
# VGG16's step of 32 at 64x64: 1,124 ms with 4 images twice, 874 with all; its third block's alone,
# of 128 at 32x32: 305 ms with 18 images twice, 271 with 19, 245 with 43 in turn, 286 with all.
PARAMETERS_PER_PIXEL = 64


def micro_batch_size(
    image_shape: tuple[int, ...], platform: str | None = None, *, parameters: int = 0
) -> int | None:
    """Images per portion: by their pixels on a CPU; `None`, all at once, elsewhere.

    `platform` is that of the devices the program is for, by default the one JAX uses; `parameters`
    the number of those that train.

    >>> micro_batch_size((128, 28, 28, 1)), micro_batch_size((128, 64, 64, 3))
    (24, 4)
    >>> micro_batch_size((128, 64, 64, 3), parameters=14_714_688)
    56
    >>> micro_batch_size((128, 28, 28, 1), "tpu")
    """
    if (platform or jax.default_backend()) != "cpu":
        return None
    pixels = max(CPU_PIXELS, parameters // PARAMETERS_PER_PIXEL)
    return max(1, pixels // (image_shape[1] * image_shape[2]))


def sum_over_micro_batches(fn: Callable[[Batch], Sums], batch: Batch, size: int | None) -> Sums:
    """`fn(batch)`, a tree of sums over the examples, as the sum of `fn` over equal portions.

    At most `size` examples each, and an even number of small portions; rows that fill up the last
    one are masked out.
    """
    count = len(batch.labels)
    if size is None or count <= size:
        return fn(batch)
    pixels = size * math.prod(batch.images.shape[1:3])
    at_once = SIDE_BY_SIDE if pixels <= CPU_PIXELS else 1
    portions = at_once * -(-count // (at_once * size))
    each = -(-count // portions)

    def split(x: jax.Array) -> jax.Array:
        filled = jnp.pad(x, [(0, portions * each - count)] + [(0, 0)] * (x.ndim - 1))
        return filled.reshape(portions, each, *x.shape[1:])

    structure = None

    @jax.jit  # traced once for its shapes and the loop
    def leaves(portion: Batch) -> list[jax.Array]:
        nonlocal structure
        values, structure = jax.tree.flatten(fn(portion))
        return values

    def add(totals: list[jax.Array], portion: Batch) -> tuple[list[jax.Array], None]:
        return jax.tree.map(jnp.add, totals, leaves(portion)), None

    split_batch = jax.tree.map(split, batch)
    shapes = jax.eval_shape(leaves, jax.tree.map(lambda x: x[0], split_batch))
    zeros = [vary(jnp.zeros(s.shape, s.dtype), varying(s)) for s in shapes]
    totals, _ = jax.lax.scan(add, zeros, split_batch, unroll=at_once)
    return jax.tree.unflatten(structure, totals)


def sum_with_state(
    fn: Callable[[ModelState, Batch, jax.Array], tuple[Sums, ModelState]],
    model_state: ModelState,
    batch: Batch,
    key: jax.Array,
    size: int | None,
) -> tuple[Sums, ModelState]:
    """`fn(model_state, batch, key)`, sums and a new state, over portions of exactly `size` in turn.

    No row is made up, since it would count in statistics: what is left over is a portion of its
    own. Each portion goes on from the state of the one before, with a key of its own, and has rows
    from the whole length of the batch, so that all devices which share it share every portion.
    """
    count = len(batch.labels)
    if size is None or count <= size:
        return fn(model_state, batch, key)
    whole = count // size

    def split(x: jax.Array) -> jax.Array:
        return x[: whole * size].reshape(size, whole, *x.shape[1:]).swapaxes(0, 1)

    portions = jax.tree.map(split, batch)

    def one(model_state: ModelState, number: tuple[jax.Array, Batch]):
        sums, model_state = fn(model_state, number[1], jax.random.fold_in(key, number[0]))
        return model_state, sums

    model_state, sums = jax.lax.scan(one, model_state, (jnp.arange(whole), portions))
    total = jax.tree.map(lambda x: x.sum(0, dtype=x.dtype), sums)
    if count > whole * size:
        rest = jax.tree.map(lambda x: x[whole * size :], batch)
        last, model_state = fn(model_state, rest, jax.random.fold_in(key, whole))
        total = jax.tree.map(jnp.add, total, last)
    return total, model_state
