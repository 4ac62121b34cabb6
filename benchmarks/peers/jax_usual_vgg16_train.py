"""A training step of all of VGG16 and a head in JAX as tutorials write it."""

import sys
import time

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks.harness.timing import say_facts, windows
from benchmarks.peers.jax_usual_small import make_train_step
from benchmarks.peers.jax_usual_vgg16_model import VGG16

STEPS = 4
DTYPE = jnp.dtype(sys.argv[2])
problem = np.load(sys.argv[1])
images, labels = jnp.asarray(problem["images"]), jnp.asarray(problem["labels"].astype(np.int32))


class Classifier(nnx.Module):
    def __init__(self, rngs):
        self.vgg16 = VGG16(problem, rngs, DTYPE)
        inputs = problem["dense1/kernel"].shape[0]
        self.dense1 = nnx.Linear(inputs, 256, dtype=DTYPE, rngs=rngs)
        self.dense2 = nnx.Linear(256, 10, dtype=DTYPE, rngs=rngs)
        for name in ("dense1", "dense2"):
            layer = getattr(self, name)
            layer.kernel[...] = jnp.asarray(problem[f"{name}/kernel"])
            layer.bias[...] = jnp.asarray(problem[f"{name}/bias"])

    def __call__(self, x):
        x = self.vgg16(x)
        x = self.dense2(nnx.relu(self.dense1(x.reshape(len(x), -1))))
        return x.astype(jnp.float32)


graphdef, params = nnx.split(Classifier(nnx.Rngs(0)))
params = jax.tree.map(jnp.copy, nnx.to_pure_dict(params))
tx = optax.adam(1e-4)
train_step = make_train_step(graphdef, tx)
state = (params, tx.init(params))


def run(n: int) -> None:
    global state
    for _ in range(n):
        state, _ = train_step(state, images, labels)
    jax.block_until_ready(state)


losses, first = [], 0.0
for _ in range(STEPS):
    started = time.perf_counter()
    state, loss = train_step(state, images, labels)
    losses.append(float(loss))
    first = first or time.perf_counter() - started
say_facts(
    versions={"jax": jax.__version__, "flax": flax.__version__},
    first_seconds=first,
    losses=losses,
    windows=windows(run, warm=(1,)),
)
