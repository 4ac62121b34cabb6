"""Into what tiles and chains Winograd's convolution cuts its work, by the sizes alone."""

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

# Chains of work that XLA runs side by side, where it runs a batch of products on one thread. VGG16
# on two cores with 1, 2, 3, 4, 6 chains, images/s: 224x224 12.0, 12.9, 14.6, 14.6, 14.2; 32x32 605,
# 615, 715, 710, -.
PARTS = 3
# Fewer multiplications than this stay in one chain. A portion of the small CNN's second layer has
# 10 million: with three chains its step took 12.6 ms, with one 9.6. The least of VGG16's training
# step, batch 32 at 32x32, has 134 million: 270 ms with three, 298 with one.
WORTH_CHAINS = 2**25


def tile_size(
    batch: int, height: int, width: int, weights: int, dtype: DTypeLike = "float32"
) -> int:
    """The m in 2, 4, 5, 6 with the least work for output maps of this size; in bfloat16 in 2, 4.

    `weights`: inputs * outputs of the kernel. Work is n * n products of the tiles with the weights,
    a fifth more with 5 and 6 for their longer sums, and fetching the n * n transformed weights:
    little while they fit the cache, as much as 50 tiles from 8 MB on (fitted to
    `python -m benchmarks tune`; 14x14 maps of 512 channels take 5 ms by F(2, 3), 25 ms by F(4, 3),
    112x112 of 128 channels 10 ms by F(4, 3), 12 ms by F(6, 3)).

    In bfloat16 a layer's error is 0.3 % by F(2, 3), as without Winograd, 1.4 % by F(4, 3), 4 % by
    F(6, 3). Over VGG16's thirteen, at 64 and 32, it is 1.9 and 1.6 %, without Winograd 1.5 and 1.9.

    >>> tile_size(22, 10, 10, 32 * 64), tile_size(64, 4, 4, 512 * 512), tile_size(1, 224, 224, 4096)
    (5, 4, 6)
    >>> tile_size(1, 14, 14, 512 * 512), tile_size(1, 112, 112, 128 * 128)
    (2, 4)
    >>> tile_size(1, 224, 224, 4096, "bfloat16")
    4
    """

    def work(m: int) -> float:
        tiles = batch * -(-height // m) * -(-width // m) * (1.2 if m > 4 else 1)
        products = (m + 2) ** 2
        return products * (tiles + 50 * min(1.0, 4 * products * weights / 2**23))

    return min((2, 4) if jnp.dtype(dtype) == jnp.bfloat16 else (2, 4, 5, 6), key=work)


def cut(n: int, parts: int) -> list[slice]:
    """`n` rows in so many slices of nearly the same length.

    >>> cut(7, 3)
    [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
    """
    return [slice(int(rows[0]), int(rows[-1]) + 1) for rows in np.array_split(range(n), parts)]


def chains(m: int, x_shape: tuple[int, ...], kernel_shape: tuple[int, ...]) -> int:
    """How many chains are worth it for an image of whole tiles: `PARTS`, or one for little work.

    >>> chains(4, (32, 34, 34, 64), (3, 3, 64, 64)), chains(5, (24, 12, 12, 32), (3, 3, 32, 64))
    (3, 1)
    """
    batch, height, width, inputs = x_shape
    r, outputs = kernel_shape[0], kernel_shape[3]
    tiles = batch * ((height - r + 1) // m) * ((width - r + 1) // m)
    return PARTS if tiles * (m + r - 1) ** 2 * inputs * outputs >= WORTH_CHAINS else 1
