"""Winograd's transforms: a 3x3 kernel over m x m outputs costs (m+2)^2 products, not 9 m^2.

For one row: y = A^T [(G g) * (B^T d)], Winograd (1980), Lavin and Gray (2016, arXiv:1509.09308).
Images and kernels are transformed apart, so a frozen kernel is transformed once. Work is cut by the
rows of the transformed tiles: a row's tiles, products and first sums need no other row's.
"""

from collections.abc import Sequence
from functools import reduce

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mnistjax.ops.cook_toom import matrices
from mnistjax.ops.padding import sum_dtype


def combine(
    matrix: np.ndarray, parts: list[Array], axis: int, dtype: DTypeLike | None = None
) -> Array:
    """Stack the matrix's rows, each a sum over `parts`, along a new axis; zeros cost nothing.

    Sums of 16-bit parts are float32; rounded to `dtype` where one is given.
    Why not a dot with the constant matrix: for 32 maps 12x12x32 that took 1.2 ms, sums 0.2 ms.
    """
    parts = [part.astype(sum_dtype(part)) for part in parts]
    wide = parts[0].dtype
    rows = []
    # By `lax`: each `*` of arrays is a jitted function, and a step took 10 to 25 % longer to trace.
    for row in matrix:
        some = [(wide.type(c), part) for c, part in zip(row, parts, strict=True) if c]
        total = reduce(lax.add, [part if c == 1 else lax.mul(part, c) for c, part in some])
        rows.append(lax.convert_element_type(total, dtype or wide))
    # The barrier keeps XLA from fusing two combinations into one that repeats the first's work.
    return lax.optimization_barrier(jnp.stack(rows, axis))


def _strided(x: Array, axis: int, count: int, stride: int, length: int) -> list[Array]:
    """`count` slices along `axis`, each of `length` steps of `stride`, beginning at 0, 1, 2 ..."""
    end = stride * (length - 1) + 1
    return [lax.slice_in_dim(x, i, i + end, stride, axis) for i in range(count)]


def _planes(x: Array, axis: int) -> list[Array]:
    return [lax.index_in_dim(x, i, axis, keepdims=False) for i in range(x.shape[axis])]


def _column_sums(matrix: np.ndarray, parts: Sequence[Array], axis: int) -> list[Array]:
    """Each row's sums over its columns, along `axis`: a plane for each row of all parts."""
    return [row for part in parts for row in _planes(combine(matrix, _planes(part, 1), axis), 0)]


def transform_input(
    x: Float[Array, "batch height width channels"],
    m: int,
    r: int,
    *,
    part: slice = slice(None),
    dtype: DTypeLike | None = None,
) -> Float[Array, "part n batch rows columns channels"]:
    """B^T d B of overlapping tiles; height and width are m * tiles + r - 1.

    `part`: only these of the n rows of every transformed tile. `dtype`: by default that of `x`.
    """
    b, dtype = matrices(m, r)[2], dtype or x.dtype
    rows, columns = (x.shape[1] - r + 1) // m, (x.shape[2] - r + 1) // m
    x = combine(b[part], _strided(x, 1, len(b), m, rows), 0)
    return combine(b, _strided(x, 3, len(b), m, columns), 1, dtype)


def transform_input_adjoint(
    parts: Sequence[Float[Array, "_ n batch rows columns channels"]], m: int, r: int
) -> Float[Array, "batch height width channels"]:
    """The gradient of `transform_input`: tiles come back and their overlaps add."""
    b = matrices(m, r)[2].T
    planes: list[Array] = []
    for v in parts:
        x = _overlap_add(combine(b, _planes(v, 1), 4), 3, m)
        planes += _planes(lax.optimization_barrier(x), 0)
    return _overlap_add(combine(b, planes, 2), 1, m)


def _overlap_add(x: Array, axis: int, m: int) -> Array:
    """Tiles at `axis`, their n places at `axis` + 1, become one axis of m * tiles + n - m."""
    tiles, n = x.shape[axis : axis + 2]
    # Written with concatenate, a copy: padding and adding took about twice as long.
    low = lax.slice_in_dim(x, 0, n - m, axis=axis + 1)
    middle = lax.slice_in_dim(x, n - m, m, axis=axis + 1)
    high = lax.slice_in_dim(x, m, n, axis=axis + 1)
    seams = lax.slice_in_dim(low, 1, tiles, axis=axis)
    seams = seams + lax.slice_in_dim(high, 0, tiles - 1, axis=axis)
    low = lax.concatenate([lax.slice_in_dim(low, 0, 1, axis=axis), seams], axis)
    last = lax.index_in_dim(high, tiles - 1, axis, keepdims=False)
    body = lax.concatenate([low, middle], axis + 1)
    return lax.concatenate([lax.collapse(body, axis, axis + 2), last], axis)


def transform_output(
    parts: Sequence[Float[Array, "_ n batch rows columns channels"]], m: int, r: int
) -> Float[Array, "batch height width channels"]:
    """A^T M A: height and width are m * tiles."""
    a = matrices(m, r)[0]
    y = combine(a, _column_sums(a, parts, 4), 2)
    return lax.collapse(lax.collapse(y, 1, 3), 2, 4)


def transform_output_adjoint(
    y: Float[Array, "batch height width channels"], m: int, r: int, *, part: slice = slice(None)
) -> Float[Array, "part n batch rows columns channels"]:
    """The gradient of `transform_output`."""
    a, dtype = matrices(m, r)[0].T, y.dtype
    batch, height, width, channels = y.shape
    y = y.reshape(batch, height // m, m, width, channels)
    y = combine(a[part], _planes(y, 2), 0)
    y = y.reshape(len(y), batch, height // m, width // m, m, channels)
    return combine(a, _planes(y, 4), 1, dtype)


def transform_kernel(
    kernel: Float[Array, "r r inputs outputs"], m: int, *, part: slice = slice(None)
) -> Float[Array, "part n inputs outputs"]:
    """G g G^T.

    >>> transform_kernel(jnp.ones((3, 3, 8, 16)), 4).shape
    (6, 6, 8, 16)
    """
    g = matrices(m, kernel.shape[0])[1]
    return combine(g, _planes(combine(g[part], _planes(kernel, 0), 0), 1), 1, kernel.dtype)


def transform_kernel_adjoint(
    parts: Sequence[Float[Array, "_ n inputs outputs"]], m: int, r: int
) -> Float[Array, "r r inputs outputs"]:
    """The gradient of `transform_kernel`."""
    g = matrices(m, r)[1].T
    return combine(g, _column_sums(g, parts, 1), 0)


def multiply(
    v: Float[Array, "m n batch rows columns inputs"], u: Float[Array, "m n inputs outputs"]
) -> Float[Array, "m n batch rows columns outputs"]:
    """The products, as m * n matrix products over all tiles; float32 of 16-bit tiles.

    On a CPU that has AVX512-BF16 these of bfloat16 run at twice the rate of float32's; with
    bfloat16 results, too, at less than it.
    """
    flat = _einsum("ktc,kco->kto", _flat(v), u.reshape(-1, *u.shape[2:]))
    return flat.reshape(*v.shape[:-1], u.shape[-1])


def multiply_adjoint(v: Array, u: Array, dm: Array) -> tuple[Array, Array]:
    """The gradients of `multiply` with respect to `v` and `u`."""
    dv = _einsum("kto,kco->ktc", _flat(dm), u.reshape(-1, *u.shape[2:]))
    du = _einsum("ktc,kto->kco", _flat(v), _flat(dm))
    return dv.reshape(v.shape), du.reshape(u.shape)


def _einsum(axes: str, a: Array, b: Array) -> Array:
    return jnp.einsum(axes, a, b, preferred_element_type=sum_dtype(a))


def _flat(x: Array) -> Array:
    return x.reshape(x.shape[0] * x.shape[1], -1, x.shape[-1])
