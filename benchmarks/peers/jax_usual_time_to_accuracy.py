"""One seed of JAX as tutorials write it to the targets."""

import sys
import time

import flax
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.harness.timing import say_facts, until
from benchmarks.peers.jax_usual_small import CNN, start

BATCH = 128
seed, epochs, every = (int(word) for word in sys.argv[2:5])
targets = [float(word) for word in sys.argv[5:-1]]
problem = np.load(sys.argv[1])
train_step, state = start(problem)
graphdef, _ = nnx.split(CNN(nnx.Rngs(0)))
images, held_out = (
    jnp.asarray(problem[f"{part}images"].astype(np.float32) / np.float32(255))
    for part in ("", "validation_")
)
labels = jnp.asarray(problem["labels"].astype(np.int32))
truth = problem["validation_labels"]
answers = jax.jit(lambda params, x: nnx.merge(graphdef, params)(x).argmax(-1))
steps = -(-len(labels) // BATCH)


def orders(epoch: int) -> list[np.ndarray]:
    order = np.random.default_rng((seed, epoch)).permutation(len(labels))
    return [order[i : i + BATCH] for i in range(0, len(order), BATCH)]


def train_to(first: int, last: int) -> None:
    global state, rows
    for number in range(first, last):
        epoch, place = divmod(number, steps)
        if not place:
            rows = orders(epoch)
        state, _ = train_step(state, images[rows[place]], labels[rows[place]])
    jax.block_until_ready(state)


def accuracy() -> float:
    said = [np.asarray(answers(state[0], part)) for part in np.split(held_out, 12)]
    return float((np.concatenate(said) == truth).mean())


rows = orders(0)
started = time.perf_counter()
sizes = {len(row): row for row in rows}.values()  # the ragged last batch compiles a second time
for row in sizes:
    jax.block_until_ready(train_step(jax.tree.map(jnp.copy, state), images[row], labels[row]))
compile_seconds = time.perf_counter() - started
accuracy()
say_facts(
    versions={"jax": jax.__version__, "flax": flax.__version__},
    compile_seconds=compile_seconds,
    **until(targets, train_to, accuracy, steps=epochs * steps, every=every),
)
