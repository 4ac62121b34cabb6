"""Pooling by any window on a CPU: over columns, then over rows, of slices of the image.

`lax.reduce_window` is a loop over each window there, and the gradient of its maximum a search in
each. Here an axis costs a maximum or sum of as many slices as the window is long, and what comes
back is added up at its places as in `taps`.
"""

from collections.abc import Sequence
from functools import partial, reduce
from operator import add
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from mnistjax.ops.padding import Padding
from mnistjax.ops.taps import Taps, fold, seen_along

LARGEST = 64  # places of a window; beyond, the slices' loops cost more to compile


def max_over_windows(x: Array, taps: Taps, padding: Padding) -> Array:
    """`max_pool` of floats."""
    x = _padded(x, taps, padding, -jnp.inf)
    for axis in (2, 1):
        x = _max_along(taps, axis, x.shape[axis], x)
    return x


def mean_over_windows(x: Array, taps: Taps, padding: Padding) -> Array:
    """`avg_pool` of float32 or wider."""
    inside = np.pad(np.ones(x.shape[1:3]), _pads_of(x.shape[1:3], taps, padding))
    x = _padded(x, taps, padding, 0)
    for axis in (2, 1):
        x = _sum_along(taps, axis, x.shape[axis], x)
    windows = np.lib.stride_tricks.sliding_window_view(inside, taps.size)
    counts = windows[:: taps.strides[0], :: taps.strides[1]].sum((2, 3))
    return x / jnp.asarray(counts, x.dtype)[None, :, :, None]


def _pads_of(sizes: Sequence[int], taps: Taps, padding: Padding) -> list[tuple[int, int]]:
    """Rows and columns before and after an image, as JAX counts them."""
    pads = lax.padtype_to_pads(sizes, taps.size, taps.strides, padding)
    return [(int(low), int(high)) for low, high in pads]


def _padded(x: Array, taps: Taps, padding: Padding, value: Any) -> Array:
    around = ((low, high, 0) for low, high in _pads_of(x.shape[1:3], taps, padding))
    return lax.pad(x, jnp.asarray(value, x.dtype), [(0, 0, 0), *around, (0, 0, 0)])


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _max_along(taps: Taps, axis: int, length: int, x: Array) -> Array:
    return reduce(jnp.maximum, seen_along(taps, x, axis))


def _max_forward(taps: Taps, axis: int, length: int, x: Array) -> tuple[Array, Array]:
    """The maximum, and the first tap that has it: of columns, then of rows, the first of all."""
    parts = seen_along(taps, x, axis)
    largest = reduce(jnp.maximum, parts)
    first = jnp.full(largest.shape, len(parts) - 1, jnp.uint8)
    for tap, part in reversed([*enumerate(parts[:-1])]):
        first = jnp.where(part == largest, jnp.uint8(tap), first)
    return largest, first


def _max_back(taps: Taps, axis: int, length: int, first: Array, g: Array) -> tuple[Array]:
    each = jnp.arange(taps.size[axis - 1], dtype=jnp.uint8).reshape(1, 1, 1, -1, 1)
    parts = jnp.where(first[:, :, :, None] == each, g[:, :, :, None], 0)
    return (fold(taps, lax.collapse(parts, 3), axis, length),)


_max_along.defvjp(_max_forward, _max_back)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _sum_along(taps: Taps, axis: int, length: int, x: Array) -> Array:
    return reduce(add, seen_along(taps, x, axis))


def _sum_back(taps: Taps, axis: int, length: int, _: None, g: Array) -> tuple[Array]:
    return (fold(taps, jnp.concatenate([g] * taps.size[axis - 1], axis=-1), axis, length),)


_sum_along.defvjp(lambda *given: (_sum_along(*given), None), _sum_back)
