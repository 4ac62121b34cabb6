"""Convolution, bias, ReLU and 2x2 pooling as one operation that computes only what is read.

Done apart, the convolution's map is written, read, and kept for the gradient; together, one byte
per pooled value is kept. Rows and columns that the pooling would drop are never computed.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped

from mnistjax.ops.convolution import conv2d, conv2d_patches
from mnistjax.ops.kinds import POOLS, Pool
from mnistjax.ops.lowering import by_platform
from mnistjax.ops.padding import (
    NARROW,
    WIDE,
    Padding,
    check_floats,
    in_float32,
    output_size,
    pad_for,
)
from mnistjax.ops.pooling import avg_pool, first_maximum, max_pool, quarters, spread, to_place
from mnistjax.ops.sharded import anywhere
from mnistjax.ops.winograd import conv2d_winograd, fits_winograd

# Patches of the whole pooling window multiply (k + 1)^2 / k^2 times as much; 64 is the limit for
# which they were tried (16 values, the small CNN's first layer), not a measured crossing.
PATCH_VALUES = 64


@anywhere
@partial(jax.jit, static_argnames=("pool", "padding", "size"), inline=True)
def conv_pool(
    x: Shaped[Array, "batch height width inputs"],
    kernel: Float[Array, "rows columns inputs outputs"],
    bias: Float[Array, " outputs"],
    *,
    pool: Pool = "max",
    padding: Padding = "SAME",
    size: tuple[int, int] | None = None,
) -> Float[Array, "batch height2 width2 outputs"]:
    """`pool(relu(conv2d(x, kernel) + bias))` over 2x2 windows, odd ends dropped.

    `size`: only the first so many rows and columns of the result, and only what they read of `x`.
    Ties of the maximum: the gradient goes to the first. Raises `ValueError` where nothing is left
    to pool.

    >>> x, kernel = jnp.ones((1, 5, 5, 1)), jnp.ones((2, 2, 1, 1))
    >>> conv_pool(x, kernel, jnp.zeros(1), padding="VALID").ravel().tolist()
    [4.0, 4.0, 4.0, 4.0]
    """
    check_floats(x, "conv_pool")
    if pool not in POOLS:
        raise ValueError(f"pool {pool!r}: must be one of {', '.join(POOLS)}")
    rows, columns = (s // 2 for s in output_size(x.shape, kernel.shape, padding))
    size = size or (rows, columns)
    if min(size) < 1 or size[0] > rows or size[1] > columns:
        raise ValueError(f"size {size}: the map pools to {rows}x{columns}")
    # From here on every kernel is "VALID" over an image that holds just what is read.
    x = pad_for(x, kernel.shape, padding, (2 * size[0], 2 * size[1]))
    bias = bias.reshape(1, 1, 1, -1)
    apart = partial(_apart, pool)
    if x.dtype not in (*WIDE, *NARROW):
        return apart(x, kernel, bias)
    window = (kernel.shape[0] + 1) * (kernel.shape[1] + 1) * kernel.shape[2]
    few = window <= PATCH_VALUES and not fits_winograd(kernel.shape)
    fast = partial(_by_patches if few else _by_map, pool)
    if not (x.dtype == jnp.bfloat16 and fits_winograd(kernel.shape)):
        fast = in_float32(fast)
    return by_platform(x, kernel, bias, cpu=fast, default=apart)


def _apart(pool: Pool, x: Array, kernel: Array, bias: Array) -> Array:
    return _POOLINGS[pool].apart(conv2d(x, kernel, padding="VALID"), bias)


class _Pooling(NamedTuple):
    """Four places to one: `forward(places, bias) -> (value, code)`, one byte of code each;
    `backward(g, code, place)` is what place 0..3 gets of the gradient g, `total(g, code)` what
    the four get together. `apart(map, bias)`: the same where XLA's own operations do it."""

    forward: Callable[[list[Array], Array], tuple[Array, Array]]
    backward: Callable[[Array, Array, Array | int], Array]
    total: Callable[[Array, Array], Array]
    apart: Callable[[Array, Array], Array]


def _max_forward(places: list[Array], bias: Array) -> tuple[Array, Array]:
    largest, first = first_maximum(places)
    y = largest + bias
    return jax.nn.relu(y), jnp.where(y > 0, first, jnp.uint8(4))  # 4: ReLU is off


def _max_total(g: Array, code: Array) -> Array:
    return jnp.where(code < 4, g, 0)


def _max_apart(y: Array, bias: Array) -> Array:
    return jax.nn.relu(max_pool(y) + bias)  # ReLU keeps order: a quarter of the work


def _avg_forward(places: list[Array], bias: Array) -> tuple[Array, Array]:
    places = [place + bias for place in places]
    a, b, c, d = map(jax.nn.relu, places)
    on = [(place > 0).astype(jnp.uint8) << i for i, place in enumerate(places)]
    return (a + b + c + d) * 0.25, sum(on[1:], start=on[0])


def _avg_backward(g: Array, code: Array, place: Array | int) -> Array:
    return jnp.where((code >> place) & 1 == 1, g * 0.25, 0)


def _avg_total(g: Array, code: Array) -> Array:
    return g * 0.25 * lax.population_count(code).astype(g.dtype)


def _avg_apart(y: Array, bias: Array) -> Array:
    return avg_pool(jax.nn.relu(y + bias))


_POOLINGS: dict[Pool, _Pooling] = {
    "max": _Pooling(_max_forward, to_place, _max_total, _max_apart),
    "avg": _Pooling(_avg_forward, _avg_backward, _avg_total, _avg_apart),
}


def _bias_gradient(pool: Pool, g: Array, code: Array) -> Array:
    return _POOLINGS[pool].total(g, code).sum((0, 1, 2), keepdims=True)


# Any kernel on a CPU: the convolution's map, then bias, ReLU and pooling at once.


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _relu_pool(pool: Pool, y: Array, bias: Array) -> Array:
    return _relu_pool_forward(pool, y, bias)[0]


def _relu_pool_forward(pool: Pool, y: Array, bias: Array) -> tuple[Array, Array]:
    return _POOLINGS[pool].forward(quarters(y), bias)


def _relu_pool_backward(pool: Pool, code: Array, g: Array) -> tuple[Array, Array]:
    dy = lax.optimization_barrier(spread(g, code, _POOLINGS[pool].backward))
    return dy, _bias_gradient(pool, g, code)


_relu_pool.defvjp(_relu_pool_forward, _relu_pool_backward)


def _by_map(pool: Pool, x: Array, kernel: Array, bias: Array) -> Array:
    conv = conv2d_winograd if fits_winograd(kernel.shape) else conv2d_patches
    y = conv(x, kernel, padding="VALID")
    return in_float32(partial(_relu_pool, pool))(y, bias)  # pyright: ignore


# Few channels: one product of each pooling window's patch with the kernel at its four places.


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _by_patches(pool: Pool, x: Array, kernel: Array, bias: Array) -> Array:
    return _patches_forward(pool, x, kernel, bias)[0]


def _window_patches(rows: int, columns: int, x: Array) -> Array:
    height, width = x.shape[1] - rows, x.shape[2] - columns
    places = [(i, j) for i in range(rows + 1) for j in range(columns + 1)]
    return jnp.concatenate([x[:, i : i + height : 2, j : j + width : 2] for i, j in places], -1)


def _patches_forward(pool: Pool, x: Array, kernel: Array, bias: Array):
    rows, columns, _, outputs = kernel.shape
    patches = _window_patches(rows, columns, x)
    y = patches @ _at_four_places(kernel)
    places = [y[..., i * outputs : (i + 1) * outputs] for i in range(4)]
    y, code = _POOLINGS[pool].forward(places, bias)
    return y, (x, patches, kernel, code)


def _at_four_places(kernel: Array) -> Array:
    """[(rows + 1) * (columns + 1) * inputs, 4 * outputs]: zero where a place does not read."""
    shifts = [((i, 1 - i), (j, 1 - j), (0, 0), (0, 0)) for i in (0, 1) for j in (0, 1)]
    moved = [jnp.pad(kernel, shift) for shift in shifts]
    return jnp.stack(moved, 3).reshape(-1, 4 * kernel.shape[3])


def _patches_backward(pool: Pool, residuals: tuple[Array, Array, Array, Array], g: Array):
    x, patches, kernel, code = residuals
    places = [_POOLINGS[pool].backward(g, code, place) for place in range(4)]
    dy = lax.optimization_barrier(jnp.concatenate(places, -1))
    dmoved = patches.reshape(-1, patches.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])
    (dkernel,) = jax.linear_transpose(_at_four_places, kernel)(dmoved)
    dpatches = dy @ _at_four_places(kernel).T  # dropped by XLA when nobody asks for dx
    (dx,) = jax.linear_transpose(partial(_window_patches, *kernel.shape[:2]), x)(dpatches)
    return dx, dkernel, _bias_gradient(pool, g, code)


_by_patches.defvjp(_patches_forward, _patches_backward)
