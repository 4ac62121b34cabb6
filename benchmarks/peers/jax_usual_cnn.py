"""The small CNN's training step in JAX as tutorials write it: nnx.Conv, ReLU, nnx.max_pool."""

import sys
import time
from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks.timing import report, windows

problem = np.load(sys.argv[1])


class CNN(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 32, (3, 3), padding="VALID", rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, (3, 3), padding="VALID", rngs=rngs)
        self.dense1 = nnx.Linear(1600, 128, rngs=rngs)
        self.dense2 = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.conv1(x)), (2, 2), (2, 2))
        x = nnx.max_pool(nnx.relu(self.conv2(x)), (2, 2), (2, 2))
        x = nnx.relu(self.dense1(x.reshape(len(x), -1)))
        return self.dense2(x)


graphdef, _ = nnx.split(CNN(nnx.Rngs(0)))
names = ("conv1", "conv2", "dense1", "dense2")
params = {n: {k: jnp.array(problem[f"{n}/{k}"]) for k in ("kernel", "bias")} for n in names}
tx = optax.adam(1e-3)


# A plain jit over a dict is faster than nnx.jit: the peer gets the faster one.
@partial(jax.jit, donate_argnums=0)
def train_step(state, images, labels):
    params, opt_state = state

    def loss_fn(params):
        logits = nnx.merge(graphdef, params)(images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    loss, grads = jax.value_and_grad(loss_fn)(params)
    updates, opt_state = tx.update(grads, opt_state)
    return (optax.apply_updates(params, updates), opt_state), loss


images = jnp.asarray(problem["images"].astype(np.float32) / np.float32(255))
labels = jnp.asarray(problem["labels"].astype(np.int32))
images, labels = list(images), list(labels)
state = (params, tx.init(params))


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
report(
    versions={"jax": jax.__version__, "flax": flax.__version__},
    first_seconds=first,
    losses=losses,
    windows=windows(run),
)
