"""A residual network for small images: preactivation blocks, a stem of one 3x3 convolution."""

from collections.abc import Sequence
from functools import partial

import jax
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float


class ResidualBlock(nnx.Module):
    """x + conv(relu(norm(conv(relu(norm(x)))))), He et al. 2016 (arXiv:1603.05027).

    Where the size or the channels change, x goes through a 1x1 convolution of what is normalised.
    """

    def __init__(
        self, inputs: int, outputs: int, *, strides: int, dtype: DTypeLike, rngs: nnx.Rngs
    ) -> None:
        def conv(inputs: int, size: int, strides: int) -> nnx.Conv:
            return nnx.Conv(
                inputs, outputs, (size, size), strides, use_bias=False, dtype=dtype, rngs=rngs
            )

        self.norm1 = nnx.BatchNorm(inputs, dtype=dtype, rngs=rngs)
        self.conv1 = conv(inputs, 3, strides)
        self.norm2 = nnx.BatchNorm(outputs, dtype=dtype, rngs=rngs)
        self.conv2 = conv(outputs, 3, 1)
        changes = strides != 1 or inputs != outputs
        self.shortcut = nnx.data(conv(inputs, 1, strides) if changes else None)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        normed = nnx.relu(self.norm1(x))
        kept = x if self.shortcut is None else self.shortcut(normed)
        return kept + self.conv2(nnx.relu(self.norm2(self.conv1(normed))))


class Bottleneck(nnx.Module):
    """The same around a 3x3 convolution on a quarter of the channels: 1x1, 3x3, 1x1."""

    def __init__(
        self, inputs: int, outputs: int, *, strides: int, dtype: DTypeLike, rngs: nnx.Rngs
    ) -> None:
        narrow = outputs // 4
        conv = partial(nnx.Conv, use_bias=False, dtype=dtype, rngs=rngs)
        self.norm1 = nnx.BatchNorm(inputs, dtype=dtype, rngs=rngs)
        self.conv1 = conv(inputs, narrow, (1, 1))
        self.norm2 = nnx.BatchNorm(narrow, dtype=dtype, rngs=rngs)
        self.conv2 = conv(narrow, narrow, (3, 3), strides)
        self.norm3 = nnx.BatchNorm(narrow, dtype=dtype, rngs=rngs)
        self.conv3 = conv(narrow, outputs, (1, 1))
        changes = strides != 1 or inputs != outputs
        self.shortcut = nnx.data(conv(inputs, outputs, (1, 1), strides) if changes else None)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        normed = nnx.relu(self.norm1(x))
        kept = x if self.shortcut is None else self.shortcut(normed)
        y = nnx.relu(self.norm2(self.conv1(normed)))
        return kept + self.conv3(nnx.relu(self.norm3(self.conv2(y))))


class ResNet(nnx.Module):
    """Residual blocks on maps that halve from stage to stage, their mean, and one dense layer.

    `blocks` in each stage, `width` channels in the first and twice as many in each further one,
    four times as many with a `bottleneck`. Its BatchNorm has state: `functional_with_state` makes
    it ready to train. The defaults are ResNet-18 with the stem for CIFAR, 11.2 million parameters;
    `blocks=(3, 4, 6, 3), bottleneck=True` is ResNet-50.

    >>> model = ResNet(1, blocks=(1, 1), width=8, rngs=nnx.Rngs(0))
    >>> model(jax.numpy.zeros((2, 28, 28, 1))).shape
    (2, 10)
    """

    def __init__(
        self,
        channels: int = 3,
        *,
        num_classes: int = 10,
        blocks: Sequence[int] = (2, 2, 2, 2),
        width: int = 64,
        bottleneck: bool = False,
        dtype: DTypeLike = "float32",
        rngs: nnx.Rngs,
    ) -> None:
        block = Bottleneck if bottleneck else ResidualBlock
        self.stem = nnx.Conv(channels, width, (3, 3), use_bias=False, dtype=dtype, rngs=rngs)
        made, inputs = [], width
        for stage, count in enumerate(blocks):
            outputs = width * 2**stage * (4 if bottleneck else 1)
            for number in range(count):
                strides = 2 if stage and not number else 1
                made.append(block(inputs, outputs, strides=strides, dtype=dtype, rngs=rngs))
                inputs = outputs
        self.blocks = nnx.List(made)
        self.norm = nnx.BatchNorm(inputs, dtype=dtype, rngs=rngs)
        self.dense = nnx.Linear(inputs, num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, images: Float[Array, "b h w c"]) -> Float[Array, "b classes"]:
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        return self.dense(jax.numpy.mean(nnx.relu(self.norm(x)), axis=(1, 2)))
