"""How much of an image a kernel reads, zeros around it, and in which precision it is summed."""

from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from mnistjax.errors import UsageError

Padding = Literal["SAME", "VALID"]
WIDE, NARROW = (jnp.float32, jnp.float64), (jnp.bfloat16, jnp.float16)


def output_size(
    x_shape: tuple[Any, ...], kernel_shape: tuple[int, ...], padding: Padding
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


def check_floats(x: Array, what: str) -> None:
    """Raise `UsageError` unless `x` is of floats: a mean or power of integers wraps around.

    >>> check_floats(jnp.zeros(1, jnp.uint8), "avg_pool")
    Traceback (most recent call last):
    mnistjax.errors.UsageError: avg_pool of uint8: takes floats. Fix: pass x.astype(jnp.float32)
    """
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise UsageError(f"{what} of {x.dtype}", "takes floats", fix="pass x.astype(jnp.float32)")


def sum_dtype(x: Array) -> np.dtype:
    """What sums of `x` are made in: float32 for 16 bits."""
    return jnp.dtype(jnp.float32) if x.dtype.itemsize < 4 else x.dtype


def in_float32(fn: Callable[..., Array]) -> Callable[..., Array]:
    """`fn` of 16-bit floats computed in float32, its result rounded; wider ones are left alone."""

    def wide(*arrays: Array, **static: Any) -> Array:
        dtype = arrays[0].dtype
        if dtype in NARROW:
            arrays = tuple(array.astype(jnp.float32) for array in arrays)
        return fn(*arrays, **static).astype(dtype)

    return wide
