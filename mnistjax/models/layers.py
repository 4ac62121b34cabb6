"""Flax NNX layers over `mnistjax.ops`: parameters and first values are those of `nnx.Conv`."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from mnistjax.errors import UsageError
from mnistjax.ops.conv_pool import conv_pool
from mnistjax.ops.convolution import conv2d
from mnistjax.ops.kinds import Pool
from mnistjax.ops.padding import Padding


class Conv(nnx.Conv):
    """`nnx.Conv` by `ops.conv2d` where that does it; the map keeps its size if not told otherwise.

    That is a 2-D kernel with stride 1 over zeros, or unpadded. All else that `nnx.Conv` takes, such
    as strides, dilation, groups, masks and other paddings, is done by it.

    >>> import jax.numpy as jnp
    >>> layer = Conv(3, 64, (3, 3), rngs=nnx.Rngs(0))
    >>> layer(jnp.zeros((2, 32, 32, 3))).shape
    (2, 32, 32, 64)
    >>> Conv(3, 64, (3, 3), strides=2, rngs=nnx.Rngs(0))(jnp.zeros((2, 32, 32, 3))).shape
    (2, 16, 16, 64)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if len(args) < 5:  # in_features, out_features, kernel_size, strides, padding
            kwargs = {"padding": "SAME"} | kwargs
        super().__init__(*args, **kwargs)

    def __call__(
        self, inputs: Float[Array, "*batch height width inputs"], *args: Any, **kwargs: Any
    ) -> Float[Array, "*batch height2 width2 outputs"]:
        if unusual(self) or self.padding not in ("SAME", "VALID") or inputs.ndim != 4 or args:
            return super().__call__(inputs, *args, **kwargs)
        bias = None if self.bias is None else self.bias[...]
        x, kernel, bias = self.promote_dtype((inputs, self.kernel[...], bias), dtype=self.dtype)
        y = conv2d(x, kernel, padding=cast(Padding, self.padding))
        return y if bias is None else y + bias.reshape(1, 1, 1, -1)


def unusual(conv: nnx.Conv) -> list[str]:
    """The options of `conv` beside its padding that our operations do not have.

    >>> unusual(nnx.Conv(1, 2, (3, 3), strides=2, use_bias=False, rngs=nnx.Rngs(0)))
    ['strides']
    """
    ones = {
        name: getattr(conv, name)
        for name in ("strides", "input_dilation", "kernel_dilation", "feature_group_count")
    }
    found = [name for name, value in ones.items() if np.any(np.asarray(value or 1) != 1)]
    if not isinstance(conv.kernel_size, Sequence) or len(conv.kernel_size) != 2:
        found.append("kernel_size")
    for name in ("mask", "precision", "preferred_element_type"):
        if getattr(conv, name, None) is not None:
            found.append(name)
    if conv.conv_general_dilated is not lax.conv_general_dilated:
        found.append("conv_general_dilated")
    return found


class ConvPool(nnx.Conv):
    """Unpadded convolution, bias, ReLU and 2x2 pooling in one: `ops.conv_pool`.

    Raises `UsageError` for an option of `nnx.Conv` that it has not.

    >>> import jax.numpy as jnp
    >>> layer = ConvPool(1, 32, (3, 3), rngs=nnx.Rngs(0))
    >>> layer(jnp.zeros((2, 28, 28, 1))).shape
    (2, 13, 13, 32)
    """

    def __init__(self, *args: Any, pool: Pool = "max", **kwargs: Any) -> None:
        if len(args) > 4 or kwargs.get("padding", "VALID") != "VALID":
            raise UsageError("ConvPool", "has no padding", fix="use Conv and ops.max_pool")
        super().__init__(*args, **({"padding": "VALID"} | kwargs))
        self.pool: Pool = pool
        if found := [*unusual(self), *([] if self.use_bias else ["use_bias=False"])]:
            fix = "use Conv, relu and ops.max_pool"
            raise UsageError("ConvPool", f"has no {', '.join(found)}", fix=fix)

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
