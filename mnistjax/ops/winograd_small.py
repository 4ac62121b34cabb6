"""Winograd's convolution of small maps, where each of its transforms is a product, too.

A map of 8x8 is 64 places: all its tiles are one constant matrix times the map, and so are their
gradients. As sums (`winograd_transforms`) they take the same time, but XLA compiles each sum: a
layer of 8x8 maps and 256 channels trains as fast and compiles in 0.2 s instead of 2. Of larger maps
the matrix is mostly zeros: 16x16 maps took 1.3 times as long as by sums, 32x32 1.8 times.
"""

from collections.abc import Sequence
from functools import cache, partial, reduce
from operator import add

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mnistjax.ops.cook_toom import matrices
from mnistjax.ops.padding import sum_dtype
from mnistjax.ops.tiling import cut
from mnistjax.ops.winograd_transforms import multiply, multiply_adjoint

SMALL = 64
# Of work that XLA runs side by side. Two layers of 512 channels on maps of 4x4, batch 32, on two
# cores: 132 ms in one chain, 116 in two, 115 in three, which need a third more memory.
CHAINS = 2


def is_small(height: int, width: int) -> bool:
    """Whether output maps of this size are computed by `winograd_small`.

    >>> is_small(8, 8), is_small(10, 10)
    (True, False)
    """
    return height * width <= SMALL


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def winograd_small(
    m: int,
    pad: int,
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "3 3 inputs outputs"],
) -> Float[Array, "batch height2 width2 outputs"]:
    """The convolution of `x`, `pad` zeros on each side, in tiles of m x m outputs."""
    return _small_forward(m, pad, x, kernel)[0]


# Jitted: equal layers are traced and lowered once.
@partial(jax.jit, static_argnums=(0, 1))
def _small_forward(m: int, pad: int, x: Array, kernel: Array):
    tiles, back = _constants(m, pad, *x.shape[1:3])
    parts = cut(len(tiles), CHAINS)
    v = [_to_tiles(tiles[part], x) for part in parts]
    u = [_of_kernel(m, part, kernel) for part in parts]
    return _to_maps(back, parts, list(map(multiply, v, u))).astype(x.dtype), (v, u)


@partial(jax.jit, static_argnums=(0, 1))
def _small_backward(m: int, pad: int, residuals: tuple[list[Array], list[Array]], dy: Array):
    v, u = residuals
    height, width = (size + 2 - 2 * pad for size in dy.shape[1:3])
    tiles, back = (turned.transpose(2, 3, 0, 1) for turned in _constants(m, pad, height, width))
    parts = cut(len(back), CHAINS)
    dm = [_to_tiles(back[part], dy) for part in parts]
    dv, du = zip(*map(multiply_adjoint, v, u, dm), strict=True)
    dx, dkernel = _to_maps(tiles, parts, dv), _to_kernel(m, parts, du)
    return dx.astype(v[0].dtype), dkernel.astype(u[0].dtype)


winograd_small.defvjp(_small_forward, _small_backward)


@cache
def _constants(m: int, pad: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Tiles of a map, [n * n, tiles, height, width], and back, [height2, width2, n * n, tiles]."""
    at, _, bt = matrices(m, 3)
    n = m + 2

    def along(length: int) -> tuple[np.ndarray, np.ndarray]:
        outputs = length + 2 * pad - 2
        count = -(-outputs // m)
        tiles, back = np.zeros((n, count, count * m + 2 + length)), np.zeros((count * m, n, count))
        for t in range(count):
            tiles[:, t, t * m : t * m + n] = bt
            back[t * m : (t + 1) * m, :, t] = at
        return tiles[:, :, pad : pad + length], back[:outputs]

    (rows, rows_back), (columns, columns_back) = along(height), along(width)
    tiles = np.einsum("irh,jtw->ijrthw", rows, columns).reshape(n * n, -1, height, width)
    back = np.einsum("hir,wjt->hwijrt", rows_back, columns_back)
    return tiles, back.reshape(*back.shape[:2], n * n, -1)


def _to_tiles(matrix: np.ndarray, x: Array) -> Array:
    """[k, tiles, height, width] times [batch, height, width, c]: [k, 1, 1, tiles, batch, c].

    As many axes as `multiply` takes.
    """
    k, tiles, height, width = matrix.shape
    batch, _, _, channels = x.shape
    flat = x.transpose(1, 2, 0, 3).reshape(height * width, batch * channels)
    product = _times(matrix.reshape(k * tiles, height * width), flat, x.dtype)
    return product.reshape(k, 1, 1, tiles, batch, channels)


def _to_maps(matrix: np.ndarray, parts: list[slice], y: Sequence[Array]) -> Array:
    """[height, width, k, tiles] times [k, 1, 1, tiles, batch, c]: [batch, height, width, c]."""
    height, width = matrix.shape[:2]
    tiles, batch, channels = y[0].shape[3:]
    sums = (
        _times(
            matrix[:, :, part].reshape(height * width, -1),
            some.reshape(len(some) * tiles, batch * channels),
        )
        for part, some in zip(parts, y, strict=True)
    )
    return reduce(add, sums).reshape(height, width, batch, channels).transpose(2, 0, 1, 3)


def _of_kernel(m: int, part: slice, kernel: Array) -> Array:
    """Its transform, [k, 1, inputs, outputs]."""
    product = _times(_kron(m)[part], kernel.reshape(9, -1), kernel.dtype)
    return product.reshape(-1, 1, *kernel.shape[2:])


def _to_kernel(m: int, parts: list[slice], du: Sequence[Array]) -> Array:
    sums = (_times(_kron(m)[p].T, u.reshape(len(u), -1)) for p, u in zip(parts, du, strict=True))
    return reduce(add, sums).reshape(3, 3, *du[0].shape[2:])


def _kron(m: int) -> np.ndarray:
    g = matrices(m, 3)[1]
    return np.kron(g, g)


def _times(constant: np.ndarray, x: Array, dtype: DTypeLike | None = None) -> Array:
    """A product whose sums are float32 or wider, rounded to `dtype` where one is given."""
    x = x.astype(sum_dtype(x))
    return (jnp.asarray(constant, x.dtype) @ x).astype(dtype or x.dtype)
