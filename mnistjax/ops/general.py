"""`lax.conv_general_dilated` as networks of others call it, fast on a CPU.

| kernel | lowering on a CPU |
|---|---|
| 3x3, stride 1, from 8 input channels on | Winograd (`winograd`) |
| 1x1, stride 1 | a product |
| other strides, sizes, dilations | a product with what each output sees (`taps`) |
| images dilated by the strides (transposed) | its transpose: a product, added up at its places |
| kernels of one channel (depthwise) | sums of shifted products |
| groups of channels | each group as above, in one batch |

Everything else is JAX's own, and on GPU and TPU all of it.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.export import is_symbolic_dim
from jaxtyping import Array

from mnistjax.ops.lowering import by_platform
from mnistjax.ops.padding import NARROW, WIDE, in_float32
from mnistjax.ops.portions import over_portions, portion_size
from mnistjax.ops.sharded import anywhere
from mnistjax.ops.taps import Pads, Taps, correlate, spread_out
from mnistjax.ops.winograd import conv2d_winograd, fits_winograd

_CONV = lax.conv_general_dilated  # as it is before anybody puts ours in its place


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
    whole model. The fast form: two spatial axes, in any order (NHWC and HWIO need no turning), of
    one float dtype, `lhs_dilation` or strides, none of `more`; all else is JAX's own. Of 16-bit
    floats nothing but the result is rounded. Reverse-mode derivatives; forward-mode ones within
    `as_lax`.

    >>> from flax import nnx
    >>> conv = nnx.Conv(3, 8, (3, 3), strides=2, rngs=nnx.Rngs(0),
    ...                 conv_general_dilated=conv_general_dilated)
    >>> conv(jnp.ones((2, 32, 32, 3))).shape
    (2, 16, 16, 8)
    """
    plain = partial(
        _CONV,
        window_strides=window_strides,
        padding=padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        **more,
    )
    if not _ordinary(lhs, rhs) or not _unasked(more):
        return plain(lhs, rhs)
    layout = _Layout.of(lhs.shape, rhs.shape, dimension_numbers)
    image, kernel = layout.shapes(lhs, rhs)
    groups, (inputs, outputs) = feature_group_count, kernel[2:]
    if groups < 1 or inputs * groups != image[3] or outputs % groups or layout.x[0] or layout.y[0]:
        return plain(lhs, rhs)  # its words for what is wrong, or the batch does not come first
    strides, between = _pair(window_strides), _pair(lhs_dilation or (1, 1))
    transposed = between != (1, 1)
    if transposed and (strides != (1, 1) or isinstance(padding, str)):
        return plain(lhs, rhs)
    dilation = _pair(rhs_dilation or (1, 1))
    depthwise = groups > 1 == inputs
    taps = Taps(_pair(kernel[:2]), between if transposed else strides, dilation, depthwise)
    sizes = [(n - 1) * d + 1 for n, d in zip(image[1:3], between, strict=True)]
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(sizes, taps.reach, strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    if not all(n + sum(p) >= r for n, p, r in zip(sizes, pads, taps.reach, strict=True)):
        return plain(lhs, rhs)
    form = partial(spread_out if transposed else _fast, taps=taps, pads=pads)
    if groups > 1:
        form = partial(_by_channel if depthwise else _by_group, form, groups)
    return _by_platform(lhs, rhs, layout.around(form), plain)


class _Layout(NamedTuple):
    """Which axis of what is given comes where in NHWC and HWIO, and of the result from where."""

    x: tuple[int, ...]
    kernel: tuple[int, ...]
    y: tuple[int, ...]

    @classmethod
    def of(cls, x_shape: Sequence[Any], kernel_shape: Sequence[int], numbers: Any) -> "_Layout":
        given = lax.conv_dimension_numbers(x_shape, kernel_shape, numbers)
        (n, c, *x), (o, i, *kernel), (yn, yc, *y) = given
        back = sorted(range(4), key=(yn, *y, yc).__getitem__)
        return cls((n, *x, c), (*kernel, i, o), tuple(back))

    def shapes(self, x: Array, kernel: Array) -> tuple[tuple[Any, ...], tuple[int, ...]]:
        image = tuple(x.shape[axis] for axis in self.x)
        return image, tuple(kernel.shape[axis] for axis in self.kernel)

    def around(self, form: Callable) -> Callable:
        def turned(x: Array, kernel: Array) -> Array:
            y = form(lax.transpose(x, self.x), lax.transpose(kernel, self.kernel))
            return lax.transpose(y, self.y)

        return turned


def _pair(of: Sequence[int]) -> tuple[int, int]:
    first, second = of
    return first, second


def _ordinary(x: Array, kernel: Array) -> bool:
    if x.ndim != 4 or kernel.ndim != 4 or 0 in (*x.shape, *kernel.shape):
        return False
    if sum(map(is_symbolic_dim, x.shape)) > is_symbolic_dim(x.shape[0]):
        return False  # only the batch may be open
    return x.dtype == kernel.dtype and x.dtype in (*WIDE, *NARROW)


def _unasked(more: dict[str, Any]) -> bool:
    """Whether nothing is asked for beyond what JAX does by itself."""
    usual = {"batch_group_count": (1,), "precision": (None, lax.Precision.DEFAULT)}
    return all(value in usual.get(name, (None,)) for name, value in more.items())


@anywhere
def _by_platform(x: Array, kernel: Array, fast: Callable, plain: Callable) -> Array:
    return by_platform(x, kernel, cpu=in_float32(fast), default=plain)


def _by_channel(form: Callable, groups: int, x: Array, kernel: Array) -> Array:
    """Of several kernels for each, a channel stands as often side by side."""
    count = kernel.shape[3] // groups
    return form(jnp.repeat(x, count, axis=3) if count > 1 else x, kernel)


def _by_group(form: Callable, groups: int, x: Array, kernel: Array) -> Array:
    """Each group of channels is a convolution of its own; their products are one batch."""
    xs, kernels = (jnp.moveaxis(a.reshape(*a.shape[:3], groups, -1), 3, 0) for a in (x, kernel))
    return lax.collapse(jnp.moveaxis(jax.vmap(form)(xs, kernels), 0, 3), 3)


def _fast(x: Array, kernel: Array, *, taps: Taps, pads: Pads) -> Array:
    one = taps.strides == taps.dilation == (1, 1) and not taps.depthwise
    winograd = one and fits_winograd(kernel.shape)
    if winograd and set(pads) == {(1, 1)}:
        return conv2d_winograd(x, kernel, padding="SAME")
    zero = jnp.zeros((), x.dtype)
    x = lax.pad(x, zero, [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)])
    if winograd:
        return conv2d_winograd(x, kernel, padding="VALID")
    if taps.depthwise or taps.size == (1, 1):  # which lay nothing side by side
        return correlate(taps, x, kernel)
    seen = math.prod(taps.outputs(*x.shape[1:3])) * kernel[..., 0].size * x.dtype.itemsize
    size = portion_size(x.shape[0], seen, kernel.size * x.dtype.itemsize)
    return over_portions(lambda x: correlate(taps, x, kernel), x, size)
