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
`python -m benchmarks tune`: with 4 input channels patches are faster (1.7 ms against 2.3), with 8
they are level, with 64 Winograd takes half of their time.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from mnistjax.ops.lowering import by_platform
from mnistjax.ops.padding import NARROW, WIDE, Padding, in_float32, output_size, pad_for
from mnistjax.ops.sharded import anywhere
from mnistjax.ops.winograd import conv2d_winograd, fits_winograd

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


@anywhere
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
    derivatives of any order; forward-mode ones within `as_lax`.

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
    return by_platform(x, kernel, cpu=fast, default=plain)


def conv2d_patches(x: Array, kernel: Array, *, padding: Padding) -> Array:
    """One matrix product over shifted copies of `x`; its gradients are products, too."""
    rows, columns = kernel.shape[:2]
    height, width = output_size(x.shape, kernel.shape, padding)
    x = pad_for(x, kernel.shape, padding, (height, width))
    shifted = [x[:, i : i + height, j : j + width] for i in range(rows) for j in range(columns)]
    return jnp.concatenate(shifted, -1) @ kernel.reshape(-1, kernel.shape[-1])
