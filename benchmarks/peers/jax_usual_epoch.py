"""Epochs of the small CNN in JAX as tutorials write it: a loop of steps, or a scan of them."""

import sys
import time
from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness.timing import say_facts, windows
from benchmarks.peers.jax_usual_small import start

mode = sys.argv[2]
problem = np.load(sys.argv[1])
train_step, state = start(problem)
steps, batch_size = problem["labels"].shape
images = jnp.asarray(problem["images"].reshape(-1, 28, 28, 1).astype(np.float32) / np.float32(255))
labels = jnp.asarray(problem["labels"].reshape(-1).astype(np.int32))
key = jax.random.key(0)


@partial(jax.jit, donate_argnums=0)
def scan_epoch(state, images, labels, order):
    return jax.lax.scan(lambda s, row: train_step(s, images[row], labels[row]), state, order)


def loop_epoch(state, images, labels, order):
    losses = []
    for row in order:
        state, loss = train_step(state, images[row], labels[row])
        losses.append(loss)
    return state, jnp.stack(losses)


epoch = scan_epoch if mode == "scan" else loop_epoch


def run(n: int) -> None:
    global state, key
    for _ in range(n):
        key, now = jax.random.split(key)
        order = jax.random.permutation(now, len(labels)).reshape(steps, batch_size)
        state, _ = epoch(state, images, labels, order)
    jax.block_until_ready(state)


order = jnp.arange(len(labels)).reshape(steps, batch_size)
started = time.perf_counter()
state, losses = epoch(state, images, labels, order)
losses = losses.tolist()
first = time.perf_counter() - started
# A scan of 40 steps takes 16 s on two cores: one window says enough.
taken = windows(run, warm=(1,), count=1 if mode == "scan" else 3)
say_facts(
    versions={"jax": jax.__version__, "flax": flax.__version__},
    first_seconds=max(0.0, first - min(taken)),
    losses=losses[:20],
    windows=taken,
)
