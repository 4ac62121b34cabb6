"""Winograd's convolution of a 3x3 kernel: forward, both gradients, and with a frozen kernel.

Beside it: `winograd_transforms` (tiles and kernels to where a convolution is a product, and back),
`cook_toom` (their matrices), `tiling` (the size of tiles, and into how many chains work is cut).
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mnistjax.ops.lowering import batch_of
from mnistjax.ops.padding import Padding, in_float32, output_size, pad_for
from mnistjax.ops.portions import over_portions, portion_size
from mnistjax.ops.sharded import anywhere
from mnistjax.ops.tiling import PARTS, chains, cut, tile_size
from mnistjax.ops.winograd_small import is_small, winograd_small
from mnistjax.ops.winograd_transforms import (
    multiply,
    multiply_adjoint,
    transform_input,
    transform_input_adjoint,
    transform_kernel,
    transform_kernel_adjoint,
    transform_output,
    transform_output_adjoint,
)

WINOGRAD_CHANNELS = 8


def fits_winograd(kernel_shape: tuple[int, ...]) -> bool:
    """Whether the CPU computes such a kernel by Winograd: 3x3, from 8 input channels on."""
    return kernel_shape[:2] == (3, 3) and kernel_shape[2] >= WINOGRAD_CHANNELS


def conv2d_winograd(x: Array, kernel: Array, *, padding: Padding) -> Array:
    """Winograd's algorithm for a 3x3 kernel, in tiles of `tile_size`; small maps in one product."""
    size = output_size(x.shape, kernel.shape, padding)
    m = tile_size(batch_of(x.shape), *size, kernel.shape[2] * kernel.shape[3], x.dtype)
    small = is_small(*size)
    convolve = (
        partial(winograd_small, m, padding == "SAME") if small else partial(_large, m, padding)
    )
    if x.dtype == jnp.float16:  # tiles of large activations would pass its largest number
        convolve = in_float32(convolve)
    return convolve(x, kernel)  # pyright: ignore[reportCallIssue]


def _large(m: int, padding: Padding, x: Array, kernel: Array) -> Array:
    height, width = output_size(x.shape, kernel.shape, padding)
    tiles, most = -(-height // m) * -(-width // m), max(kernel.shape[2:])
    places = (m + 2) ** 2 * x.dtype.itemsize
    size = None  # gradients of portions are summed, too often for 16 bits
    if x.dtype.itemsize >= 4:
        size = portion_size(x.shape[0], tiles * most * places, kernel[0, 0].size * places)
    shape = (size or batch_of(x.shape), -(-height // m) * m + 2, -(-width // m) * m + 2, x.shape[3])
    u = transformed(m, chains(m, shape, kernel.shape), kernel)
    return over_portions(
        lambda x: over_tiles(lambda x: over_kernel(m, x, u), x, m, padding), x, size
    )


def over_tiles(fn: Callable[[Array], Array], x: Array, m: int, padding: Padding) -> Array:
    """`fn` of `x` padded to whole tiles, for a 3x3 kernel; what is too much is cut off again."""
    height, width = output_size(x.shape, (3, 3), padding)
    x = pad_for(x, (3, 3), padding, (-(-height // m) * m, -(-width // m) * m))
    return fn(x)[:, :height, :width]


def winograd_conv(m: int, x: Array, kernel: Array) -> Array:
    """The convolution of an image of whole tiles, all at once."""
    count = chains(m, (batch_of(x.shape), *x.shape[1:]), kernel.shape)
    return over_kernel(m, x, transformed(m, count, kernel))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def transformed(m: int, count: int, kernel: Array) -> list[Array]:
    """The kernel's transform, cut into `count` chains."""
    return _transformed(m, count, kernel)


# Jitted: equal layers are traced and lowered once.
@partial(jax.jit, static_argnums=(0, 1))
def _transformed(m: int, count: int, kernel: Array) -> list[Array]:
    return [transform_kernel(kernel, m, part=part) for part in cut(m + 2, count)]


@partial(jax.jit, static_argnums=(0, 1))
def _transformed_back(m: int, count: int, _: None, du: list[Array]) -> tuple[Array]:
    return (transform_kernel_adjoint(du, m, 3).astype(du[0].dtype),)


transformed.defvjp(
    lambda m, count, kernel: (_transformed(m, count, kernel), None), _transformed_back
)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def over_kernel(m: int, x: Array, u: list[Array]) -> Array:
    """The convolution of an image of whole tiles with a kernel from `transformed`."""
    return _forward(m, x, u)[0]


@partial(jax.jit, static_argnums=0)
def _forward(m: int, x: Array, u: list[Array]):
    v = [transform_input(x, m, 3, part=part) for part in cut(m + 2, len(u))]
    y = transform_output(list(map(multiply, v, u)), m, 3)
    return y.astype(x.dtype), (v, u)


@partial(jax.jit, static_argnums=0)
def _backward(m: int, residuals: tuple[list[Array], list[Array]], dy: Array):
    v, u = residuals
    parts = cut(m + 2, len(v))
    dm = [transform_output_adjoint(dy, m, 3, part=part) for part in parts]
    dv, du = zip(*map(multiply_adjoint, v, u, dm), strict=True)
    dx = transform_input_adjoint(dv, m, 3).astype(v[0].dtype)
    return dx, [part.astype(u[0].dtype) for part in du]


over_kernel.defvjp(_forward, _backward)


@anywhere
@partial(jax.jit, static_argnames="padding", inline=True)
def conv2d_frozen(
    x: Float[Array, "batch height width inputs"],
    parts: Sequence[Float[Array, "_ n inputs outputs"]],
    *,
    padding: Padding = "SAME",
) -> Float[Array, "batch height2 width2 outputs"]:
    """`conv2d` with a 3x3 kernel that `freeze_kernel` has transformed already.

    For a CPU: tiles are of the size and dtype that the kernel was transformed for. Not made for
    training; its gradient is correct but slow.

    >>> from mnistjax.ops.convolution import conv2d
    >>> x, kernel = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 4, 2))
    >>> y = conv2d_frozen(x, freeze_kernel(kernel, 4))
    >>> bool(jnp.allclose(y, conv2d(x, kernel), atol=1e-4))
    True
    """
    m = parts[0].shape[1] - 2
    return over_tiles(lambda x: convolve_frozen(x, parts, 3), x, m, padding)


def freeze_kernel(
    kernel: Float[Array, "r r inputs outputs"], m: int, dtype: DTypeLike | None = None
) -> tuple[Float[Array, "_ n inputs outputs"], ...]:
    """`transform_kernel` done once, rounded to `dtype`, cut into the `PARTS` of `convolve_frozen`.

    Arrays of their own: cut within a program, 28x28 maps of 512 channels took 20 ms instead of 7.

    >>> [part.shape for part in freeze_kernel(jnp.ones((3, 3, 8, 16)), 5)]
    [(3, 7, 8, 16), (2, 7, 8, 16), (2, 7, 8, 16)]
    """
    parts = (transform_kernel(kernel, m, part=part) for part in cut(m + len(kernel) - 1, PARTS))
    return tuple(part.astype(dtype or kernel.dtype) for part in parts)


def convolve_frozen(
    x: Float[Array, "batch height width inputs"],
    parts: Sequence[Float[Array, "_ n inputs outputs"]],
    r: int,
) -> Float[Array, "batch height2 width2 outputs"]:
    """The convolution with a kernel from `freeze_kernel`; height and width are m * tiles + r - 1.

    Tiles are of the kernel's dtype, the result is of `x`'s.
    """
    m = parts[0].shape[1] - r + 1
    rows = cut(m + r - 1, len(parts))
    tiles = [transform_input(x, m, r, part=part, dtype=parts[0].dtype) for part in rows]
    return transform_output(list(map(multiply, tiles, parts)), m, r).astype(x.dtype)
