"""Flax NNX layers over `mnistjax.ops`: parameters and first values are those of `nnx.Conv`."""

from collections.abc import Sequence
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from mnistjax.ops.conv_pool import conv_pool
from mnistjax.ops.convolution import conv2d
from mnistjax.ops.kinds import Pool


class Conv(nnx.Conv):
    """Convolution and bias, the map keeps its size: `ops.conv2d`.

    >>> import jax.numpy as jnp
    >>> layer = Conv(3, 64, (3, 3), rngs=nnx.Rngs(0))
    >>> layer(jnp.zeros((2, 32, 32, 3))).shape
    (2, 32, 32, 64)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, padding="SAME", **kwargs)

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, inputs: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch height width outputs"]:
        assert self.bias is not None
        arrays = inputs, self.kernel[...], self.bias[...]
        x, kernel, bias = self.promote_dtype(arrays, dtype=self.dtype)
        return conv2d(x, kernel) + bias.reshape(1, 1, 1, -1)


class ConvPool(nnx.Conv):
    """Unpadded convolution, bias, ReLU and 2x2 pooling in one: `ops.conv_pool`.

    >>> import jax.numpy as jnp
    >>> layer = ConvPool(1, 32, (3, 3), rngs=nnx.Rngs(0))
    >>> layer(jnp.zeros((2, 28, 28, 1))).shape
    (2, 13, 13, 32)
    """

    def __init__(self, *args: Any, pool: Pool = "max", **kwargs: Any) -> None:
        super().__init__(*args, padding="VALID", **kwargs)
        self.pool: Pool = pool

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        inputs: Float[Array, "batch height width inputs"],
        size: tuple[int, int] | None = None,
    ) -> Float[Array, "batch height2 width2 outputs"]:
        """`size`: only the first rows and columns, where the next layer reads no more."""
        assert self.bias is not None
        arrays = inputs, self.kernel[...], self.bias[...]
        x, kernel, bias = self.promote_dtype(arrays, dtype=self.dtype)
        return conv_pool(x, kernel, bias, pool=self.pool, padding="VALID", size=size)


def read_sizes(size: int, kernels: Sequence[int]) -> list[int]:
    """How much of each pooled map is read in a chain of unpadded convolutions and 2x2 poolings.

    A pooling drops an odd row; what only that row would have read need not be computed either.

    >>> read_sizes(28, [3, 3])  # 26 -> 13, of which the next layer's 10 rows read 12
    [12, 5]
    """
    for k in kernels:
        size = (size - k + 1) // 2
    sizes = [size]
    for k in reversed(kernels[1:]):
        sizes.insert(0, 2 * sizes[0] + k - 1)
    return sizes
