"""`lax.conv_transpose` as a convolution of a dilated image, which is fast on a CPU (`general`)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from jax import lax
from jaxtyping import Array

from mnistjax.ops.convolution import DIMENSIONS
from mnistjax.ops.general import conv_general_dilated

_PLAIN = lax.conv_transpose  # as it is before anybody puts ours in its place


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

    >>> import jax.numpy as jnp
    >>> conv_transpose(jnp.ones((1, 4, 4, 8)), jnp.ones((2, 2, 8, 3)), (2, 2), "SAME").shape
    (1, 8, 8, 3)
    """
    plain = partial(
        _PLAIN,
        strides=strides,
        padding=padding,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        transpose_kernel=transpose_kernel,
        **more,
    )
    if not (lhs.ndim == rhs.ndim == 4 == 2 + len(strides)):
        return plain(lhs, rhs)
    if more.pop("use_consistent_padding", False):
        return plain(lhs, rhs)
    layout = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers or DIMENSIONS)
    if transpose_kernel:  # that of the convolution whose image's gradient this is
        rhs = lax.rev(rhs, layout.rhs_spec[2:]).swapaxes(*layout.rhs_spec[:2])
    size = [rhs.shape[axis] for axis in layout.rhs_spec[2:]]
    dilation = rhs_dilation or (1, 1)
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            return plain(lhs, rhs)
        reach = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
        padding = [_around(padding, k, s) for k, s in zip(reach, strides, strict=True)]
    return conv_general_dilated(lhs, rhs, (1, 1), padding, strides, rhs_dilation, layout, **more)


def _around(padding: str, reach: int, stride: int) -> tuple[int, int]:
    """Zeros before and after the dilated image, by the padding of the convolution it transposes."""
    if padding == "VALID":
        return reach - 1, stride - 1 + max(reach - stride, 0)
    before = reach - 1 if stride > reach - 1 else -(-(reach + stride - 2) // 2)
    return before, reach + stride - 2 - before
