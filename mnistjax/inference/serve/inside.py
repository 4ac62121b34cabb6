"""What the layers of a network make of images: their maps, and the last hidden layer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mnistjax.data.batches import to_unit
from mnistjax.models.cnn import CNN
from mnistjax.models.described import module_of
from mnistjax.models.functional import Params
from mnistjax.models.head import as_vector
from mnistjax.models.vgg16 import convolutions, walk
from mnistjax.ops.convolution import conv2d
from mnistjax.ops.normalization import local_response_norm
from mnistjax.runs.archive import Archive
from mnistjax.weights.preprocess import to_vgg_input

Inside = Callable[[np.ndarray], tuple[dict[str, np.ndarray], np.ndarray]]
"""uint8 [n, h, w, c] to maps [n, height, width, channels] by layer, and hidden [n, features]."""


def make_inside(archive: Archive) -> Inside | None:
    """What looks into the network of `archive`; None for one that is not this library's."""
    about = archive.about["network"]
    module = module_of(about)
    if module is None:
        return None
    look = _in_vgg16(about) if "frozen" in about else _in_cnn(module)
    params, jitted = jax.device_put(archive.params), jax.jit(look)

    def inside(images: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        with jax.transfer_guard("allow"):
            return jax.device_get(jitted(params, images))

    return inside


def _in_cnn(module: Callable[[Params], CNN]) -> Callable[[Params, jax.Array], Any]:
    def look(params: Params, images: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        model = module(params)
        normalise = local_response_norm if model.lrn else lambda x: x
        conv1 = normalise(model.conv1(to_unit(images), model.size1))
        conv2 = normalise(model.conv2(conv1, model.size2))
        hidden = nnx.relu(model.dense1(conv2.reshape(conv2.shape[0], -1)))
        return _wide({"conv1": conv1, "conv2": conv2}), hidden.astype(jnp.float32)

    return look


def _in_vgg16(about: dict[str, Any]) -> Callable[[Params, jax.Array], Any]:
    frozen = about["frozen"]
    table = convolutions([*frozen["blocks"], *about["blocks"]])

    def look(params: Params, images: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        def convolve(layer: str, x: jax.Array) -> jax.Array:
            of = params["backbone"][layer]
            return conv2d(x, of["kernel"]) + of["bias"].reshape(1, 1, 1, -1)

        x = to_vgg_input(images, size=frozen["image_size"], pixels=frozen["pixels"])
        maps = {}
        for block, layers in table.items():
            maps[block] = x = walk([layers], x, convolve)
        head, y = params["head"], as_vector(x, about["kind"])
        if "standardise" in head:
            mean, scale = (head["standardise"][name].reshape(1, -1) for name in ("mean", "scale"))
            y = (y - mean) * scale
        hidden = nnx.relu(y @ head["dense1"]["kernel"] + head["dense1"]["bias"].reshape(1, -1))
        return maps, hidden

    return look


def _wide(maps: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: each.astype(jnp.float32) for name, each in maps.items()}
