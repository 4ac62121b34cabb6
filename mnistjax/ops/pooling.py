"""Pooling: on a CPU of strided slices, by 2x2 with stride 2 at once; elsewhere by Flax."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax.export import is_symbolic_dim
from jaxtyping import Array, Float, Shaped

from mnistjax.ops.lowering import by_platform
from mnistjax.ops.padding import Padding, check_floats, in_float32
from mnistjax.ops.pooling_windows import LARGEST, max_over_windows, mean_over_windows
from mnistjax.ops.sharded import anywhere
from mnistjax.ops.taps import Taps


@anywhere
@partial(jax.jit, static_argnames=("window", "strides", "padding"), inline=True)
def max_pool(
    x: Shaped[Array, "batch height width channels"],
    window: tuple[int, int] = (2, 2),
    *,
    strides: tuple[int, int] | None = None,
    padding: Padding = "VALID",
) -> Shaped[Array, "batch height2 width2 channels"]:
    """The largest of each window; `strides` default to the window, as in Keras and PyTorch.

    The gradient goes to the first maximum of a window, in rows then columns, on every platform.
    "VALID" drops what fills no window. On a CPU 2x2 is a maximum of four slices: its gradient
    takes 0.9 ms where `lax.reduce_window`'s takes 39 ms (128 maps 26x26x32, two cores).

    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1)).ravel().tolist()
    [5.0, 7.0, 13.0, 15.0]
    """
    plain = partial(nnx.max_pool, window_shape=window, strides=strides or window, padding=padding)
    if _is_2x2(x, window, strides, padding):
        return by_platform(x, cpu=lambda x: _max_pool_2x2(_even(x)), default=plain)
    taps = _windows(x, window, strides, padding)
    if taps is None:
        return plain(x)
    return by_platform(x, cpu=lambda x: max_over_windows(x, taps, padding), default=plain)


@anywhere
@partial(jax.jit, static_argnames=("window", "strides", "padding"), inline=True)
def avg_pool(
    x: Shaped[Array, "batch height width channels"],
    window: tuple[int, int] = (2, 2),
    *,
    strides: tuple[int, int] | None = None,
    padding: Padding = "VALID",
) -> Float[Array, "batch height2 width2 channels"]:
    """The mean of each window; with "SAME", of the part inside the image, as in Keras.

    Raises `UsageError` for integers.

    >>> avg_pool(jnp.arange(16.0).reshape(1, 4, 4, 1)).ravel().tolist()
    [2.5, 4.5, 10.5, 12.5]
    """
    check_floats(x, "avg_pool")

    def plain(x: Array) -> Array:
        with jax.numpy_dtype_promotion("standard"):  # Flax divides a float by an int
            return nnx.avg_pool(x, window, strides or window, padding, count_include_pad=False)

    plain = in_float32(plain)  # a sum in 16 bits rounds at every term
    if _is_2x2(x, window, strides, padding):
        return by_platform(x, cpu=in_float32(_avg_pool_2x2), default=plain)
    taps = _windows(x, window, strides, padding)
    if taps is None:
        return plain(x)
    means = in_float32(lambda x: mean_over_windows(x, taps, padding))
    return by_platform(x, cpu=means, default=plain)


def _is_2x2(x: Array, window: tuple, strides: tuple | None, padding: Padding) -> bool:
    even = x.shape[1] % 2 == x.shape[2] % 2 == 0
    fits = min(x.shape[1:3]) >= 2 and (padding == "VALID" or even)
    return window == (2, 2) and strides in (None, (2, 2)) and fits


def _windows(x: Array, window: tuple, strides: tuple | None, padding: Padding) -> Taps | None:
    """Where windows lie, if slices can be taken for them; a window of all is a plain reduction."""
    if not jnp.issubdtype(x.dtype, jnp.floating) or any(map(is_symbolic_dim, x.shape[1:])):
        return None
    fits = padding == "SAME" or (window[0] <= x.shape[1] and window[1] <= x.shape[2])
    if not fits or math.prod(window) > LARGEST or 0 in x.shape[1:]:
        return None
    return Taps(window, strides or window, (1, 1), depthwise=True)


def _avg_pool_2x2(x: Array) -> Array:
    a, b, c, d = quarters(_even(x))
    return (a + b + c + d) * 0.25


def _even(x: Array) -> Array:
    return x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]


def quarters(x: Array) -> list[Array]:
    """The four places of each 2x2 block of an even map: rows then columns."""
    return [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]


def first_maximum(places: list[Array]) -> tuple[Array, Array]:
    """The largest of four arrays, and which was the first to have it: 0..3 as uint8."""
    a, b, c, d = places
    largest = jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))
    first = jnp.where(a == largest, 0, jnp.where(b == largest, 1, jnp.where(c == largest, 2, 3)))
    return largest, first.astype(jnp.uint8)


def spread(
    g: Array, code: Array, backward: Callable[[Array, Array, Array], Array]
) -> Float[Array, "batch height width channels"]:
    """The gradient of each 2x2 block, `backward(g, code, place)` at its four places."""
    batch, height, width, channels = g.shape
    places = jnp.arange(4, dtype=jnp.uint8).reshape(1, 1, 2, 1, 2, 1)
    blocks = backward(g[:, :, None, :, None], code[:, :, None, :, None], places)
    return blocks.reshape(batch, 2 * height, 2 * width, channels)


def to_place(g: Array, code: Array, place: Array | int) -> Array:
    """The maximum's gradient: all of it where `code` is the place."""
    return jnp.where(code == place, g, 0)


@jax.custom_vjp
def _max_pool_2x2(x: Array) -> Array:
    return _max_forward(x)[0]


def _max_forward(x: Array) -> tuple[Array, Array]:
    return first_maximum(quarters(x))


def _max_backward(place: Array, g: Array) -> tuple[Array]:
    return (spread(g, place, to_place),)


_max_pool_2x2.defvjp(_max_forward, _max_backward)
