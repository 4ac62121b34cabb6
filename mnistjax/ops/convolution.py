"""2-D convolution, stride 1, with the fastest lowering we know on each platform.

XLA's own convolution is right on GPU and TPU. On a CPU its gradients are slow, in a `lax.scan`
naive loops (github.com/jax-ml/jax/issues/12868), so there every convolution is matrix products:

| kernel | input channels | lowering on CPU |
|---|---|---|
| 3x3 | 8 and more | Winograd F(m, 3), m by the map's size (`tiling.tile_size`) |
| other | any | patches: one product with all k * k shifted copies side by side |

Every operation is jitted, so that outside of jit it is one program: a small CNN's first call took
7 s operation by operation and takes 1. Inside jit it leaves no trace (`inline`).

Forward and both gradients share the transformed tiles, so one rule serves all three. It rests on
`python -m benchmarks.tune`: with 4 input channels patches are faster (1.7 ms against 2.3), with 8
they are level, with 64 Winograd takes half of their time.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from mnistjax.ops import tiling, winograd

Padding = Literal["SAME", "VALID"]
WINOGRAD_CHANNELS = 8
DIMENSIONS = ("NHWC", "HWIO", "NHWC")
WIDE, NARROW = (jnp.float32, jnp.float64), (jnp.bfloat16, jnp.float16)


@partial(jax.jit, static_argnames=("padding", "strides", "dilation"), inline=True)
def conv2d(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "rows columns inputs outputs"],
    *,
    padding: Padding = "SAME",
    strides: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
) -> Float[Array, "batch height2 width2 outputs"]:
    """Correlate `x` with `kernel`, as Keras and PyTorch do: y[i, j] = sum x[i+a, j+b] k[a, b].

    Relative error against float64 below 2e-6 by patches, below 1e-5 by Winograd, in float32; below
    2e-2 in bfloat16 on a CPU, whose sums are float32, and of float16 nothing but the result is
    rounded there. Strides, dilation and other dtypes go to `lax.conv_general_dilated`. Reverse-mode
    derivatives of any order; `jax.jvp` of the Winograd form is refused by JAX (`custom_vjp`).

    >>> conv2d(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 2)), padding="VALID").shape
    (1, 2, 2, 2)
    """
    if padding not in ("SAME", "VALID"):
        raise ValueError(f"padding {padding!r}: must be 'SAME' or 'VALID'")
    plain = partial(
        lax.conv_general_dilated,
        window_strides=strides,
        padding=padding,
        rhs_dilation=dilation,
        dimension_numbers=DIMENSIONS,
    )
    if strides != (1, 1) or dilation != (1, 1) or x.dtype not in (*WIDE, *NARROW):
        return plain(x, kernel)
    fast = conv2d_winograd if fits_winograd(kernel.shape) else in_float32(conv2d_patches)
    fast = partial(fast, padding=padding)
    return lax.platform_dependent(x, kernel, cpu=fast, default=plain)


def in_float32(fn: Callable[..., Array]) -> Callable[..., Array]:
    """`fn` of 16-bit floats computed in float32, its result rounded; wider ones are left alone."""

    def wide(*arrays: Array, **static: Any) -> Array:
        dtype = arrays[0].dtype
        if dtype in NARROW:
            arrays = tuple(array.astype(jnp.float32) for array in arrays)
        return fn(*arrays, **static).astype(dtype)

    return wide


def fits_winograd(kernel_shape: tuple[int, ...]) -> bool:
    """Whether the CPU computes such a kernel by Winograd: 3x3, from 8 input channels on."""
    return kernel_shape[:2] == (3, 3) and kernel_shape[2] >= WINOGRAD_CHANNELS


def conv2d_patches(x: Array, kernel: Array, *, padding: Padding) -> Array:
    """One matrix product over shifted copies of `x`; its gradients are products, too."""
    rows, columns = kernel.shape[:2]
    height, width = output_size(x.shape, kernel.shape, padding)
    x = pad_for(x, kernel.shape, padding, (height, width))
    shifted = [x[:, i : i + height, j : j + width] for i in range(rows) for j in range(columns)]
    return jnp.concatenate(shifted, -1) @ kernel.reshape(-1, kernel.shape[-1])


def conv2d_winograd(x: Array, kernel: Array, *, padding: Padding) -> Array:
    """Winograd's algorithm for a 3x3 kernel, in tiles of `tiling.tile_size`."""
    size = output_size(x.shape, kernel.shape, padding)
    m = tiling.tile_size(len(x), *size, kernel.shape[2] * kernel.shape[3], x.dtype)
    convolve = partial(winograd_conv, m)
    if x.dtype == jnp.float16:  # tiles of large activations would pass its largest number
        convolve = in_float32(convolve)
    return over_tiles(lambda x: convolve(x, kernel), x, m, padding)  # pyright: ignore


def over_tiles(fn: Callable[[Array], Array], x: Array, m: int, padding: Padding) -> Array:
    """`fn` of `x` padded to whole tiles, for a 3x3 kernel; what is too much is cut off again."""
    height, width = output_size(x.shape, (3, 3), padding)
    x = pad_for(x, (3, 3), padding, (-(-height // m) * m, -(-width // m) * m))
    return fn(x)[:, :height, :width]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def winograd_conv(m: int, x: Array, kernel: Array) -> Array:
    return _winograd_forward(m, x, kernel)[0]


def _winograd_forward(m: int, x: Array, kernel: Array):
    parts = tiling.cut(m + 2, tiling.chains(m, x.shape, kernel.shape))
    v = [winograd.transform_input(x, m, 3, part=part) for part in parts]
    u = [winograd.transform_kernel(kernel, m, part=part) for part in parts]
    y = winograd.transform_output(list(map(winograd.multiply, v, u)), m, 3)
    return y.astype(x.dtype), (v, u)


def _winograd_backward(m: int, residuals: tuple[list[Array], list[Array]], dy: Array):
    v, u = residuals
    parts = tiling.cut(m + 2, len(v))
    dm = [winograd.transform_output_adjoint(dy, m, 3, part=part) for part in parts]
    dv, du = zip(*map(winograd.multiply_adjoint, v, u, dm), strict=True)
    dx = winograd.transform_input_adjoint(dv, m, 3).astype(v[0].dtype)
    return dx, winograd.transform_kernel_adjoint(du, m, 3).astype(u[0].dtype)


winograd_conv.defvjp(_winograd_forward, _winograd_backward)


@partial(jax.jit, static_argnames="padding", inline=True)
def conv2d_frozen(
    x: Float[Array, "batch height width inputs"],
    parts: Sequence[Float[Array, "_ n inputs outputs"]],
    *,
    padding: Padding = "SAME",
) -> Float[Array, "batch height2 width2 outputs"]:
    """`conv2d` with a 3x3 kernel that `winograd.freeze_kernel` has transformed already.

    For a CPU: tiles are of the size and dtype that the kernel was transformed for. Not made for
    training; its gradient is correct but slow.

    >>> x, kernel = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 4, 2))
    >>> y = conv2d_frozen(x, winograd.freeze_kernel(kernel, 4))
    >>> bool(jnp.allclose(y, conv2d(x, kernel), atol=1e-4))
    True
    """
    m = parts[0].shape[1] - 2
    return over_tiles(lambda x: winograd.convolve(x, parts, 3), x, m, padding)


def output_size(
    x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], padding: Padding
) -> tuple[int, int]:
    """Height and width of the output; `ValueError` if the kernel does not fit in."""
    if padding == "SAME":
        return x_shape[1], x_shape[2]
    size = x_shape[1] - kernel_shape[0] + 1, x_shape[2] - kernel_shape[1] + 1
    if min(size) < 1:
        raise ValueError(
            f"a {kernel_shape[0]}x{kernel_shape[1]} kernel does not fit into a"
            f" {x_shape[1]}x{x_shape[2]} image without padding"
        )
    return size


def pad_for(
    x: Array, kernel_shape: tuple[int, ...], padding: Padding, size: tuple[int, ...]
) -> Array:
    """Zeros around `x`, or rows and columns cut off at the end, to make exactly `size` outputs."""
    config = [(0, 0, 0)]
    for axis in (0, 1):
        k = kernel_shape[axis]
        low = (k - 1) // 2 if padding == "SAME" else 0
        config.append((low, size[axis] + k - 1 - x.shape[axis + 1] - low, 0))
    config.append((0, 0, 0))
    return lax.pad(x, jnp.zeros((), x.dtype), config)  # a negative amount cuts
