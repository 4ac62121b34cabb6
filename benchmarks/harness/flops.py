"""Multiplications and additions of one image by the definition of the network.

What is needed, not what is done: Winograd does less.
"""

import math

from mnistjax.models.vgg16_table import table


def cnn_step_flops() -> float:
    """The small CNN's training step: forward once, backward twice, but no gradient of the pixels.

    26x26 outputs of the first and 11x11 of the second convolution.

    >>> cnn_step_flops() / 1e6
    15.396864
    """
    conv1, conv2 = 26 * 26 * 9 * 32, 11 * 11 * 9 * 32 * 64
    dense = 1600 * 128 + 128 * 10
    return 2.0 * (2 * conv1 + 3 * conv2 + 3 * dense)


def vgg16_flops(size: int) -> float:
    """VGG16's 13 convolutions forward, of an image of `size`; each block has half the side.

    >>> round(vgg16_flops(224) / 1e9, 1)
    30.7
    """
    return sum(_forward(layer, size) for layer in table())


def vgg16_step_flops(size: int) -> float:
    """A training step of all 13: forward, two gradients, none of the pixels.

    >>> round(vgg16_step_flops(32) / 1e9, 2)
    1.88
    """
    return 3 * vgg16_flops(size) - _forward("block1_conv1", size)


def _forward(layer: str, size: int) -> float:
    block = int(layer.removeprefix("block").partition("_")[0])
    side = size // 2 ** (block - 1)
    return 2.0 * side * side * math.prod(table()[layer]["kernel"])
