"""A small U-Net: every pixel gets a class. Maps are halved, widened, and grown again."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class DoubleConv(nnx.Module):
    """Two 3x3 convolutions, each with BatchNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(inputs, outputs, (3, 3), use_bias=False, rngs=rngs)
        self.norm1 = nnx.BatchNorm(outputs, rngs=rngs)
        self.conv2 = nnx.Conv(outputs, outputs, (3, 3), use_bias=False, rngs=rngs)
        self.norm2 = nnx.BatchNorm(outputs, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c2"]:
        return nnx.relu(self.norm2(self.conv2(nnx.relu(self.norm1(self.conv1(x))))))


class UNet(nnx.Module):
    """Ronneberger et al. 2015 (arXiv:1505.04597), padded, with BatchNorm: 1.9 million parameters.

    >>> import jax
    >>> shapes = nnx.eval_shape(lambda: UNet(rngs=nnx.Rngs(0)))
    >>> sum(x.size for x in jax.tree.leaves(nnx.state(shapes, nnx.Param)))
    1927306
    """

    def __init__(
        self,
        channels: int = 3,
        *,
        num_classes: int = 10,
        widths: Sequence[int] = (32, 64, 128, 256),
        rngs: nnx.Rngs,
    ) -> None:
        pairs = list(zip((channels, *widths), widths, strict=False))
        self.down = nnx.List([DoubleConv(*pair, rngs=rngs) for pair in pairs])
        back = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nnx.List(
            [nnx.ConvTranspose(wide, narrow, (2, 2), (2, 2), rngs=rngs) for wide, narrow in back]
        )
        self.merge = nnx.List([DoubleConv(2 * narrow, narrow, rngs=rngs) for _, narrow in back])
        self.last = nnx.Conv(widths[0], num_classes, (1, 1), rngs=rngs)

    def __call__(self, images: Float[Array, "b h w c"]) -> Float[Array, "b h w classes"]:
        kept, x = [], self.down[0](images)
        for block in list(self.down)[1:]:
            kept.append(x)
            x = block(nnx.max_pool(x, (2, 2), (2, 2)))
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(jnp.concatenate([kept.pop(), up(x)], -1))
        return self.last(x)
