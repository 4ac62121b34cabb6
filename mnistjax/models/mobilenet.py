"""MobileNetV2 for small images: narrow maps, widened for a depthwise convolution in between."""

import jax
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

# Widening, channels, blocks, stride of the first: table 2 of Sandler et al. 2018
# (arXiv:1801.04381), with the stem's and the first stages' strides taken out for 32x32 images.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM, LAST = 32, 1280


class ConvNorm(nnx.Module):
    """A convolution without bias, and BatchNorm."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        strides: int = 1,
        groups: int = 1,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv = nnx.Conv(
            inputs,
            outputs,
            (size, size),
            strides,
            feature_group_count=groups,
            use_bias=False,
            dtype=dtype,
            rngs=rngs,
        )
        self.norm = nnx.BatchNorm(outputs, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        return self.norm(self.conv(x))


class InvertedBlock(nnx.Module):
    """Widen by 1x1, one 3x3 kernel a channel, narrow by 1x1; x is added where shapes agree."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        widening: int,
        strides: int,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        wide = inputs * widening
        self.widen = nnx.data(
            None if widening == 1 else ConvNorm(inputs, wide, 1, dtype=dtype, rngs=rngs)
        )
        self.depthwise = ConvNorm(
            wide, wide, 3, strides=strides, groups=wide, dtype=dtype, rngs=rngs
        )
        self.narrow = ConvNorm(wide, outputs, 1, dtype=dtype, rngs=rngs)
        self.adds = strides == 1 and inputs == outputs

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        wide = x if self.widen is None else nnx.relu6(self.widen(x))
        y = self.narrow(nnx.relu6(self.depthwise(wide)))
        return x + y if self.adds else y


class MobileNetV2(nnx.Module):
    """MobileNetV2 with a stem that keeps 32x32 images as large as they are: 2.2 million parameters.

    Its BatchNorm has state: `functional_with_state` makes it ready to train.

    >>> shapes = nnx.eval_shape(lambda: MobileNetV2(rngs=nnx.Rngs(0)))
    >>> sum(x.size for x in jax.tree.leaves(nnx.state(shapes, nnx.Param)))
    2236682
    """

    def __init__(
        self,
        channels: int = 3,
        *,
        num_classes: int = 10,
        dtype: DTypeLike = "float32",
        rngs: nnx.Rngs,
    ) -> None:
        self.stem = ConvNorm(channels, STEM, 3, dtype=dtype, rngs=rngs)
        made, inputs = [], STEM
        for widening, outputs, count, stride in STAGES:
            for number in range(count):
                strides = 1 if number else stride
                made.append(
                    InvertedBlock(
                        inputs,
                        outputs,
                        widening=widening,
                        strides=strides,
                        dtype=dtype,
                        rngs=rngs,
                    )
                )
                inputs = outputs
        self.blocks = nnx.List(made)
        self.last = ConvNorm(inputs, LAST, 1, dtype=dtype, rngs=rngs)
        self.dense = nnx.Linear(LAST, num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, images: Float[Array, "b h w c"]) -> Float[Array, "b classes"]:
        x = nnx.relu6(self.stem(images))
        for block in self.blocks:
            x = block(x)
        return self.dense(jax.numpy.mean(nnx.relu6(self.last(x)), axis=(1, 2)))
