"""The small CNN's training step in JAX as tutorials write it: nnx.Conv, ReLU, nnx.max_pool."""

import sys
import time

import flax
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness.timing import say_facts, windows
from benchmarks.peers.jax_usual_small import start

problem = np.load(sys.argv[1])
train_step, state = start(problem)
images = jnp.asarray(problem["images"].astype(np.float32) / np.float32(255))
labels = jnp.asarray(problem["labels"].astype(np.int32))
images, labels = list(images), list(labels)


def run(n: int) -> None:
    global state
    for i in range(n):
        state, _ = train_step(state, images[i % len(images)], labels[i % len(images)])
    jax.block_until_ready(state)


losses, first = [], 0.0
for i in range(len(images)):
    started = time.perf_counter()
    state, loss = train_step(state, images[i], labels[i])
    losses.append(float(loss))
    first = first or time.perf_counter() - started
say_facts(
    versions={"jax": jax.__version__, "flax": flax.__version__},
    first_seconds=first,
    losses=losses,
    windows=windows(run),
)
