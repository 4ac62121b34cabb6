"""The job `nets`' four networks in Keras 3, their layers named as in Flax, with dots."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import layers as of

STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2),
    (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
WIDTHS = 32, 64, 128, 256


def conv(x: Any, name: str, outputs: int, size: int, strides: int = 1, bias: bool = False) -> Any:
    layer = of.Conv2D(outputs, size, strides, "same", use_bias=bias, name=name)
    return layer(x)


def norm(x: Any, name: str, then: str = "linear") -> Any:
    return of.Activation(then)(of.BatchNormalization(epsilon=1e-5, momentum=0.99, name=name)(x))


def layer_norm(x: Any, name: str) -> Any:
    return of.LayerNormalization(epsilon=1e-6, name=name)(x)


def resnet(x: Any) -> Any:
    x, inputs = conv(x, "stem", 64, 3), 64
    for number in range(8):
        at, outputs = f"blocks.{number}", 64 * 2 ** (number // 2)
        strides = 2 if number and not number % 2 else 1
        normed = norm(x, f"{at}.norm1", "relu")
        y = norm(conv(normed, f"{at}.conv1", outputs, 3, strides), f"{at}.norm2", "relu")
        changes = strides != 1 or inputs != outputs
        x = conv(normed, f"{at}.shortcut", outputs, 1, strides) if changes else x
        x, inputs = x + conv(y, f"{at}.conv2", outputs, 3), outputs
    return of.Dense(10, name="dense")(of.GlobalAveragePooling2D()(norm(x, "norm", "relu")))


def mobilenet(x: Any) -> Any:
    def conv_norm(x: Any, name: str, outputs: int, size: int, then: str = "relu6") -> Any:
        return norm(conv(x, f"{name}.conv", outputs, size), f"{name}.norm", then)

    x, inputs = conv_norm(x, "stem", 32, 3), 32
    shapes = [(w, c, 1 if n else s) for w, c, count, s in STAGES for n in range(count)]
    for number, (widening, outputs, strides) in enumerate(shapes):
        at, y = f"blocks.{number}", x
        if widening > 1:
            y = conv_norm(x, f"{at}.widen", inputs * widening, 1)
        layer = of.DepthwiseConv2D(3, strides, "same", use_bias=False, name=f"{at}.depthwise.conv")
        y = norm(layer(y), f"{at}.depthwise.norm", "relu6")
        y = conv_norm(y, f"{at}.narrow", outputs, 1, "linear")
        x, inputs = x + y if strides == 1 and inputs == outputs else y, outputs
    return of.Dense(10, name="dense")(of.GlobalAveragePooling2D()(conv_norm(x, "last", 1280, 1)))


def unet(x: Any) -> Any:
    def double(x: Any, name: str, outputs: int) -> Any:
        for number in "12":
            x = conv(x, f"{name}.conv{number}", outputs, 3)
            x = norm(x, f"{name}.norm{number}", "relu")
        return x

    kept, x = [], double(x, "down.0", WIDTHS[0])
    for number, width in enumerate(WIDTHS[1:], 1):
        kept.append(x)
        x = double(of.MaxPooling2D()(x), f"down.{number}", width)
    for number, width in enumerate(WIDTHS[-2::-1]):
        x = of.Conv2DTranspose(width, 2, 2, "same", name=f"up.{number}")(x)
        x = double(of.Concatenate()([kept.pop(), x]), f"merge.{number}", width)
    return conv(x, "last", 10, 1, bias=True)


class Scale(of.Layer):
    def build(self, input_shape: Any) -> None:
        self.gamma = self.add_weight(name="gamma", shape=input_shape[-1:])

    def call(self, x: Any) -> Any:
        return x * self.gamma


def convnext(x: Any) -> Any:
    x, wide, number = layer_norm(conv(x, "stem", 96, 4, 4, True), "stem_norm"), 96, 0
    for stage, count in enumerate((3, 3, 9, 3)):
        if stage:
            at, wide = f"blocks.{number}", 2 * wide
            x = conv(layer_norm(x, f"{at}.norm"), f"{at}.conv", wide, 2, 2, True)
            number += 1
        for at in (f"blocks.{n}" for n in range(number, number + count)):
            y = of.DepthwiseConv2D(7, 1, "same", name=f"{at}.depthwise")(x)
            y = of.Dense(4 * wide, "gelu", name=f"{at}.dense1")(layer_norm(y, f"{at}.norm"))
            x = x + Scale(name=at)(of.Dense(wide, name=f"{at}.dense2")(y))
        number += count
    x = layer_norm(of.GlobalAveragePooling2D()(x), "norm")
    return of.Dense(10, name="dense")(x)


MADE = {"resnet": resnet, "mobilenet": mobilenet, "unet": unet, "convnext": convnext}
ROLES = {"moving_mean": "mean", "moving_variance": "var", "gamma": "scale", "beta": "bias"}


def network(problem: Mapping[str, np.ndarray], name: str) -> keras.Model:
    """The network with the problem's parameters."""
    images = keras.Input(problem["images"].shape[1:])
    model = keras.Model(images, MADE[name](images))
    for layer in model.layers:
        for weight in layer.weights:
            role = weight.name if isinstance(layer, Scale) else ROLES.get(weight.name, weight.name)
            array = problem[f"{layer.name.replace('.', '/')}/{role}"]
            if isinstance(layer, of.DepthwiseConv2D) and array.ndim == 4:
                array = array.transpose(0, 1, 3, 2)
            if isinstance(layer, of.Conv2DTranspose) and array.ndim == 4:
                array = array[::-1, ::-1].transpose(0, 1, 3, 2)
            weight.assign(array)
    return model
