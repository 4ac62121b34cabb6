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
    convolve = partial(winograd_small, m, padding == "SAME") if small else partial(winograd_conv, m)
    if x.dtype == jnp.float16:  # tiles of large activations would pass its largest number
        convolve = in_float32(convolve)
    if small:
        return convolve(x, kernel)
    return over_tiles(lambda x: convolve(x, kernel), x, m, padding)  # pyright: ignore


def over_tiles(fn: Callable[[Array], Array], x: Array, m: int, padding: Padding) -> Array:
    """`fn` of `x` padded to whole tiles, for a 3x3 kernel; what is too much is cut off again."""
    height, width = output_size(x.shape, (3, 3), padding)
    x = pad_for(x, (3, 3), padding, (-(-height // m) * m, -(-width // m) * m))
    return fn(x)[:, :height, :width]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def winograd_conv(m: int, x: Array, kernel: Array) -> Array:
    return _winograd_forward(m, x, kernel)[0]


# Jitted: equal layers are traced and lowered once.
@partial(jax.jit, static_argnums=0)
def _winograd_forward(m: int, x: Array, kernel: Array):
    parts = cut(m + 2, chains(m, (batch_of(x.shape), *x.shape[1:]), kernel.shape))
    v = [transform_input(x, m, 3, part=part) for part in parts]
    u = [transform_kernel(kernel, m, part=part) for part in parts]
    y = transform_output(list(map(multiply, v, u)), m, 3)
    return y.astype(x.dtype), (v, u)


@partial(jax.jit, static_argnums=0)
def _winograd_backward(m: int, residuals: tuple[list[Array], list[Array]], dy: Array):
    v, u = residuals
    parts = cut(m + 2, len(v))
    dm = [transform_output_adjoint(dy, m, 3, part=part) for part in parts]
    dv, du = zip(*map(multiply_adjoint, v, u, dm), strict=True)
    dx = transform_input_adjoint(dv, m, 3).astype(v[0].dtype)
    return dx, transform_kernel_adjoint(du, m, 3).astype(u[0].dtype)


winograd_conv.defvjp(_winograd_forward, _winograd_backward)


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
