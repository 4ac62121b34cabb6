"""Networks by name, as `experiments.scratch` has them: ready to train, and again from a file."""

from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx

from mnistjax.models.cnn import CNN
from mnistjax.models.deep import DeepCNN
from mnistjax.models.described import describe
from mnistjax.models.mobilenet import MobileNetV2
from mnistjax.models.resnet import ResNet
from mnistjax.ops.speed_up import speed_up

Shape = tuple[int, int, int]


def _deep(shape: Shape, **how: Any) -> nnx.Module:
    return DeepCNN(image_shape=shape, **how)


def _resnet(shape: Shape, **how: Any) -> nnx.Module:
    return _sped_up(ResNet(shape[2], blocks=(3, 3, 3), width=16, **how))


def _mobilenet(shape: Shape, **how: Any) -> nnx.Module:
    return _sped_up(MobileNetV2(shape[2], **how))


def _sped_up(model: nnx.Module) -> nnx.Module:
    speed_up(model)
    return model


NETWORKS: dict[str, Callable[..., nnx.Module]] = {
    "deep": _deep,
    "resnet": _resnet,
    "mobilenet": _mobilenet,
}


def make_network(name: str, *, image_shape: Shape, **how: Any) -> nnx.Module:
    """A new network: "small" (`CNN`), "deep" (`DeepCNN`), "resnet" or "mobilenet".

    "resnet" is the preactivation ResNet-20 of 0.27 million parameters, "mobilenet" MobileNetV2;
    both have BatchNorm, and our operations in place of XLA's (`speed_up`). `how`: `num_classes`,
    `dtype`, `rngs`, and what else the small one takes.

    >>> type(make_network("small", image_shape=(28, 28, 1), num_classes=3, rngs=nnx.Rngs(0)))
    <class 'mnistjax.models.cnn.CNN'>
    """
    if name == "small":
        return CNN(image_shape=image_shape, **how)
    return NETWORKS[name](image_shape, **how)


def new_network(
    name: str, *, image_shape: Shape, seed: int, **how: Any
) -> tuple[nnx.Module, dict[str, Any]]:
    """A network by name, its parameters drawn from `seed`, and what a file says of it (JSON)."""
    model = make_network(name, image_shape=image_shape, rngs=nnx.Rngs(seed), **how)
    if name not in NETWORKS:
        return model, describe(model)
    return model, {"network": name, "image_shape": [*image_shape]} | how


def described_network(described: Mapping[str, Any]) -> nnx.Module | None:
    """A network of these by name, made as `described` says, of new parameters; None for any other.

    >>> about = {"network": "deep", "image_shape": [28, 28, 1], "num_classes": 3}
    >>> type(described_network(about)), described_network({"network": "CNN", "image_shape": [8, 8, 1]})
    (<class 'mnistjax.models.deep.DeepCNN'>, None)
    """  # noqa: E501
    name: str = described["network"]
    how: dict[str, Any] = {"rngs": nnx.Rngs(0)} | dict(described)
    if how.pop("network") not in NETWORKS or not how.pop("ours", True):
        return None
    return make_network(name, image_shape=(*how.pop("image_shape"),), **how)
