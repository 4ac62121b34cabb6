"""VGG16's 13 convolutions forward in JAX as tutorials write it: nnx.Conv, ReLU, nnx.max_pool."""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.harness.timing import say_facts, windows
from benchmarks.peers.jax_usual_vgg16_model import VGG16

problem = np.load(sys.argv[1])
images = jnp.asarray(problem["images"])
graphdef, state = nnx.split(VGG16(problem, nnx.Rngs(0), dtype=jnp.dtype(sys.argv[2])))
forward = jax.jit(lambda state, images: nnx.merge(graphdef, state)(images))


def run(n: int) -> jax.Array:
    features = images
    for _ in range(n):
        features = forward(state, images)
    return jax.block_until_ready(features)


started = time.perf_counter()
features = np.asarray(run(1), np.float32)
say_facts(
    versions={"jax": jax.__version__},
    first_seconds=time.perf_counter() - started,
    checks=np.abs(features).mean((0, 1, 2)).tolist(),
    windows=windows(run),
)
