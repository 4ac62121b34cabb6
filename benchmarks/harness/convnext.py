"""ConvNeXt-T: depthwise 7x7 convolutions between dense layers, as a transformer's blocks."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class ConvNextBlock(nnx.Module):
    """x + gamma * dense(gelu(dense(norm(depthwise(x))))); dense layers look at one pixel each."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs) -> None:
        self.depthwise = nnx.Conv(
            channels, channels, (7, 7), feature_group_count=channels, rngs=rngs
        )
        self.norm = nnx.LayerNorm(channels, rngs=rngs)
        self.dense1 = nnx.Linear(channels, 4 * channels, rngs=rngs)
        self.dense2 = nnx.Linear(4 * channels, channels, rngs=rngs)
        # 1e-6 in the paper, which would hide from a comparison of logits what a block does.
        self.gamma = nnx.Param(jnp.full(channels, 0.1))

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        y = self.dense1(self.norm(self.depthwise(x)))
        y = self.dense2(jax.nn.gelu(y, approximate=False))
        return x + self.gamma[...].reshape(1, 1, 1, -1) * y


class Shrink(nnx.Module):
    """LayerNorm, and a 2x2 convolution of stride 2."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(inputs, rngs=rngs)
        self.conv = nnx.Conv(inputs, outputs, (2, 2), 2, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        return self.conv(self.norm(x))


class ConvNext(nnx.Module):
    """Liu et al. 2022 (arXiv:2201.03545), table 9's T: 27.8 million parameters.

    >>> shapes = nnx.eval_shape(lambda: ConvNext(rngs=nnx.Rngs(0)))
    >>> sum(x.size for x in jax.tree.leaves(nnx.state(shapes, nnx.Param)))
    27827818
    """

    def __init__(
        self,
        channels: int = 3,
        *,
        num_classes: int = 10,
        blocks: Sequence[int] = (3, 3, 9, 3),
        width: int = 96,
        rngs: nnx.Rngs,
    ) -> None:
        self.stem = nnx.Conv(channels, width, (4, 4), 4, rngs=rngs)
        self.stem_norm = nnx.LayerNorm(width, rngs=rngs)
        made, wide = [], width
        for stage, count in enumerate(blocks):
            if stage:
                made.append(Shrink(wide, 2 * wide, rngs=rngs))
                wide *= 2
            made += [ConvNextBlock(wide, rngs=rngs) for _ in range(count)]
        self.blocks = nnx.List(made)
        self.norm = nnx.LayerNorm(wide, rngs=rngs)
        self.dense = nnx.Linear(wide, num_classes, rngs=rngs)

    def __call__(self, images: Float[Array, "b h w c"]) -> Float[Array, "b classes"]:
        x = self.stem_norm(self.stem(images))
        for block in self.blocks:
            x = block(x)
        return self.dense(self.norm(jnp.mean(x, axis=(1, 2))))
