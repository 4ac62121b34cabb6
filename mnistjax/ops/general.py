"""`lax.conv_general_dilated` as networks of others call it, fast on a CPU.

| kernel | lowering on a CPU |
|---|---|
| 3x3, stride 1, from 8 input channels on | Winograd (`winograd`) |
| 1x1, stride 1 | a product |
| other strides, sizes, dilations | taps: a product of slices, its gradients by phases (`taps`) |
| one kernel a channel (depthwise) | taps: sums of shifted products |

Everything else is JAX's own, and on GPU and TPU all of it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.export import is_symbolic_dim
from jaxtyping import Array

from mnistjax.ops.convolution import DIMENSIONS
from mnistjax.ops.lowering import by_platform
from mnistjax.ops.padding import NARROW, WIDE, in_float32
from mnistjax.ops.sharded import anywhere
from mnistjax.ops.taps import Taps, correlate
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
    no `lhs_dilation`, one group or as many as channels, none of `more`; all else is JAX's own. Of
    16-bit floats nothing but the result is rounded. Reverse-mode derivatives; forward-mode ones
    within `as_lax`.

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
    dilated = set(lhs_dilation or (1,)) != {1}
    if dilated or not _ordinary(lhs, rhs, dimension_numbers) or not _unasked(more):
        return plain(lhs, rhs)
    depthwise = feature_group_count > 1
    channels = (1, feature_group_count) if depthwise else (lhs.shape[3], rhs.shape[3])
    if rhs.shape[2:] != channels or (depthwise and feature_group_count != lhs.shape[3]):
        return plain(lhs, rhs)  # several channels a group, or its words for what is wrong
    strides, dilation = _pair(window_strides), _pair(rhs_dilation or (1, 1))
    taps = Taps(_pair(rhs.shape[:2]), strides, dilation, depthwise)
    sizes = lhs.shape[1:3]
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(sizes, taps.reach, strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    fits = (n + sum(p) >= r for n, p, r in zip(sizes, pads, taps.reach, strict=True))
    return _fast(lhs, rhs, taps, pads, plain) if all(fits) else plain(lhs, rhs)


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
def _fast(
    x: Array, kernel: Array, taps: Taps, pads: tuple[tuple[int, int], ...], plain: Callable
) -> Array:
    def fast(x: Array, kernel: Array) -> Array:
        zero = jnp.zeros((), x.dtype)
        x = lax.pad(x, zero, [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)])
        if taps.strides == taps.dilation == (1, 1) and not taps.depthwise:
            if fits_winograd(kernel.shape):
                return conv2d_winograd(x, kernel, padding="VALID")
            if taps.size == (1, 1):
                return x @ kernel[0, 0]
        return correlate(taps, x, kernel)

    return by_platform(x, kernel, cpu=in_float32(fast), default=plain)


def speed_up(model: nnx.Module) -> list[str]:
    """Let every `nnx.Conv` of `model` use `conv_general_dilated`; the paths of those changed.

    A layer that has an operation of its own keeps it. The parameters are untouched.

    >>> model = nnx.Sequential(nnx.Conv(1, 8, (3, 3), rngs=nnx.Rngs(0)), nnx.relu)
    >>> speed_up(model), speed_up(model)
    (['layers/0'], [])
    """
    changed = []
    for path, module in nnx.iter_modules(model):
        if isinstance(module, nnx.Conv) and module.conv_general_dilated is lax.conv_general_dilated:
            module.conv_general_dilated = conv_general_dilated
            changed.append("/".join(map(str, path)))
    return changed
