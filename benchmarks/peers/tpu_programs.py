"""The training steps that are compiled for TPUs: each of them jitted, with all but the batch."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

import mnistjax as mj
from mnistjax.frozen.forward import make_frozen
from mnistjax.models.head import FineTuned
from mnistjax.models.vgg16 import convolutions, map_shape
from mnistjax.training.parallel import by_rows
from mnistjax.weights.preprocess import to_vgg_input

BLOCKS = [f"block{n}" for n in range(1, 6)]
TX = optax.adam(1e-3)


def small_cnn(mesh: Mesh, size: int, dtype: str) -> tuple[Any, list[Any], int]:
    """The jitted step, its arguments but the batch, and the channels of an image."""
    model = mj.CNN(image_shape=(size, size, 1), dtype=dtype, rngs=nnx.Rngs(0))
    apply_fn, params = mj.functional(model)
    step = mj.make_train_step(apply_fn=apply_fn, tx=TX, mesh=mesh)
    return step, [mj.init_state(params, TX)], 1


def vgg16(mesh: Mesh, size: int, dtype: str) -> tuple[Any, list[Any], int]:
    """All of VGG16 and the head train."""
    model = FineTuned(input_shape=(size, size, 3), blocks=BLOCKS, dtype=dtype, rngs=nnx.Rngs(0))
    apply_fn, params = mj.functional(model)
    preprocess = partial(to_vgg_input, size=size)
    step = mj.make_train_step(apply_fn=apply_fn, tx=TX, preprocess=preprocess, mesh=mesh)
    return step, [mj.init_state(params, TX)], 3


def vgg16_frozen(mesh: Mesh, size: int, dtype: str) -> tuple[Any, list[Any], int]:
    """The head trains on what the frozen blocks make of the batch, in one program."""
    shape = map_shape((size, size, 3), BLOCKS)
    model = FineTuned(input_shape=shape, dtype=dtype, rngs=nnx.Rngs(0))
    apply_fn, params = mj.functional(model)
    head = mj.make_train_step(apply_fn=apply_fn, tx=TX, preprocess=lambda maps: maps, mesh=mesh)
    layers = {layer: of for block in convolutions(BLOCKS).values() for layer, of in block.items()}
    weights = jax.tree.map(jnp.zeros, layers, is_leaf=lambda x: isinstance(x, tuple))
    constant, frozen = make_frozen(
        weights, blocks=BLOCKS, image_size=size, dtype=dtype, platform="tpu"
    )
    through = by_rows(lambda c, images: frozen(c, to_vgg_input(images, size=size)), mesh=mesh)

    def step(state: mj.TrainState, constant: Any, batch: mj.Batch) -> Any:
        return head(state, batch._replace(images=through(constant, batch.images)))

    return jax.jit(step, donate_argnums=0), [mj.init_state(params, TX), constant], 3


PROGRAMS = {f.__name__: f for f in (small_cnn, vgg16, vgg16_frozen)}
