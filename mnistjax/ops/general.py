"""`lax.conv_general_dilated` as networks of others call it, fast on a CPU.

| kernel | lowering on a CPU |
|---|---|
| 3x3, stride 1, from 8 input channels on | Winograd (`winograd`) |
| 1x1, stride 1 | a product |
| other strides, sizes, dilations | a product with what each output sees (`taps`) |
| images dilated by the strides (transposed) | its transpose: a product, added up at its places |
| one kernel a channel (depthwise) | sums of shifted products |

Everything else is JAX's own, and on GPU and TPU all of it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.export import is_symbolic_dim
from jaxtyping import Array

from mnistjax.ops.convolution import DIMENSIONS
from mnistjax.ops.lowering import by_platform
from mnistjax.ops.padding import NARROW, WIDE, in_float32
from mnistjax.ops.sharded import anywhere
from mnistjax.ops.taps import Pads, Taps, correlate, spread_out
from mnistjax.ops.winograd import conv2d_winograd, fits_winograd


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    **more: Any,
) -> Array:
    """`jax.lax.conv_general_dilated` with a fast form on a CPU; `more` are its other arguments.

    For `nnx.Conv(..., conv_general_dilated=...)` and `linen.Conv` alike; `speed_up` puts it into a
    whole model. The fast form: two spatial axes, NHWC images and HWIO kernels of one float dtype,
    `lhs_dilation` or strides, one group or as many as channels, none of `more`; all else is JAX's
    own. Of 16-bit floats nothing but the result is rounded. Reverse-mode derivatives; forward-mode
    ones within `as_lax`.

    >>> from flax import nnx
    >>> conv = nnx.Conv(3, 8, (3, 3), strides=2, rngs=nnx.Rngs(0),
    ...                 conv_general_dilated=conv_general_dilated)
    >>> conv(jnp.ones((2, 32, 32, 3))).shape
    (2, 16, 16, 8)
    """
    plain = partial(
        lax.conv_general_dilated,
        window_strides=window_strides,
        padding=padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        **more,
    )
    if not _ordinary(lhs, rhs, dimension_numbers) or not _unasked(more):
        return plain(lhs, rhs)
    depthwise = feature_group_count > 1
    channels = (1, feature_group_count) if depthwise else (lhs.shape[3], rhs.shape[3])
    if rhs.shape[2:] != channels or (depthwise and feature_group_count != lhs.shape[3]):
        return plain(lhs, rhs)  # several channels a group, or its words for what is wrong
    strides, between = _pair(window_strides), _pair(lhs_dilation or (1, 1))
    transposed = between != (1, 1)
    if transposed and (strides != (1, 1) or isinstance(padding, str)):
        return plain(lhs, rhs)
    dilation = _pair(rhs_dilation or (1, 1))
    taps = Taps(_pair(rhs.shape[:2]), between if transposed else strides, dilation, depthwise)
    sizes = [(n - 1) * d + 1 for n, d in zip(lhs.shape[1:3], between, strict=True)]
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(sizes, taps.reach, strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    fits = (n + sum(p) >= r for n, p, r in zip(sizes, pads, taps.reach, strict=True))
    if not all(fits):
        return plain(lhs, rhs)
    form = spread_out if transposed else _fast
    return _by_platform(lhs, rhs, partial(form, taps=taps, pads=pads), plain)


def _pair(of: Sequence[int]) -> tuple[int, int]:
    first, second = of
    return first, second


def _ordinary(x: Array, kernel: Array, dimension_numbers: Any) -> bool:
    if x.ndim != 4 or kernel.ndim != 4 or 0 in (*x.shape[1:], *kernel.shape):
        return False
    if any(map(is_symbolic_dim, x.shape[1:])):
        return False
    if x.dtype != kernel.dtype or x.dtype not in (*WIDE, *NARROW):
        return False
    given = lax.conv_dimension_numbers(x.shape, kernel.shape, dimension_numbers)
    return given == lax.conv_dimension_numbers(x.shape, kernel.shape, DIMENSIONS)


def _unasked(more: dict[str, Any]) -> bool:
    """Whether nothing is asked for beyond what JAX does by itself."""
    usual = {"batch_group_count": (1,), "precision": (None, lax.Precision.DEFAULT)}
    return all(value in usual.get(name, (None,)) for name, value in more.items())


@anywhere
def _by_platform(x: Array, kernel: Array, fast: Callable, plain: Callable) -> Array:
    return by_platform(x, kernel, cpu=in_float32(fast), default=plain)


def _fast(x: Array, kernel: Array, *, taps: Taps, pads: Pads) -> Array:
    one = taps.strides == taps.dilation == (1, 1) and not taps.depthwise
    winograd = one and fits_winograd(kernel.shape)
    if winograd and set(pads) == {(1, 1)}:
        return conv2d_winograd(x, kernel, padding="SAME")
    zero = jnp.zeros((), x.dtype)
    x = lax.pad(x, zero, [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)])
    if winograd:
        return conv2d_winograd(x, kernel, padding="VALID")
    if one and taps.size == (1, 1):
        return x @ kernel[0, 0]
    return correlate(taps, x, kernel)


def conv_transpose(
    lhs: Array,
    rhs: Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    transpose_kernel: bool = False,
    **more: Any,
) -> Array:
    """`jax.lax.conv_transpose` by `conv_general_dilated`; `more` are its other arguments.

    >>> conv_transpose(jnp.ones((1, 4, 4, 8)), jnp.ones((2, 2, 8, 3)), (2, 2), "SAME").shape
    (1, 8, 8, 3)
    """
    plain = partial(
        lax.conv_transpose,
        strides=strides,
        padding=padding,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        transpose_kernel=transpose_kernel,
        **more,
    )
    if not (lhs.ndim == rhs.ndim == 4 == 2 + len(strides)) or transpose_kernel:
        return plain(lhs, rhs)
    if dimension_numbers not in (None, DIMENSIONS) or more.pop("use_consistent_padding", False):
        return plain(lhs, rhs)
    dilation = rhs_dilation or (1, 1)
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            return plain(lhs, rhs)
        reach = [(k - 1) * d + 1 for k, d in zip(rhs.shape[:2], dilation, strict=True)]
        padding = [_around(padding, k, s) for k, s in zip(reach, strides, strict=True)]
    return conv_general_dilated(
        lhs, rhs, (1, 1), padding, strides, rhs_dilation, DIMENSIONS, **more
    )


def _around(padding: str, reach: int, stride: int) -> tuple[int, int]:
    """Zeros before and after the dilated image, by the padding of the convolution it transposes."""
    if padding == "VALID":
        return reach - 1, stride - 1 + max(reach - stride, 0)
    before = reach - 1 if stride > reach - 1 else -(-(reach + stride - 2) // 2)
    return before, reach + stride - 2 - before
