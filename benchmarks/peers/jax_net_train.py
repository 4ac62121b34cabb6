"""A training step of a network of the field in JAX: `usual` as it is, `ours` with `speed_up`."""

import sys
from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.harness.timing import say_facts, windows
from benchmarks.peers.jax_net_start import compiled, start
from benchmarks.peers.ours_memory import temp_mib
from mnistjax.host_memory import keep_host_memory

STEPS = 3
name, way = sys.argv[2:4]
if way == "ours":
    keep_host_memory()
problem = np.load(sys.argv[1])
images, labels = jnp.asarray(problem["images"]), jnp.asarray(problem["labels"].astype(np.int32))
apply_fn, params, model_state = start(problem, name, way)
tx = optax.sgd(0.01, momentum=0.9)


@partial(jax.jit, donate_argnums=0)
def train_step(state, images, labels):
    params, model_state, opt_state = state

    def loss_fn(params):
        logits, new = apply_fn(params, model_state, images, jax.random.key(0))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), new

    (loss, model_state), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    updates, opt_state = tx.update(grads, opt_state)
    return (optax.apply_updates(params, updates), model_state, opt_state), loss


state = (params, model_state, tx.init(params))
step, compile_seconds = compiled(train_step, state, images, labels)


def run(n: int) -> None:
    global state
    for _ in range(n):
        state, _ = step(state, images, labels)
    jax.block_until_ready(state)


losses = []
for _ in range(STEPS):
    state, loss = step(state, images, labels)
    losses.append(float(loss))
say_facts(
    versions={"jax": jax.__version__, "flax": flax.__version__},
    first_seconds=compile_seconds,
    losses=losses,
    windows=windows(run, count=3, warm=(1,)),
    temp_mib=temp_mib(step),
)
