"""One seed of this library to the targets: the loop of `fit`, scored every so many steps."""

import sys
import time

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import mnistjax as mj
from benchmarks.harness.timing import say_facts, until
from mnistjax.data.batches import epoch_order, on_device, steps_per_epoch, take_batch
from mnistjax.training.compile import compile_for

mj.keep_host_memory()

BATCH = 128
seed, epochs, every = (int(word) for word in sys.argv[2:5])
targets = [float(word) for word in sys.argv[5:-1]]
problem = np.load(sys.argv[1])
train, validation = (
    mj.Split(problem[f"{part}images"], problem[f"{part}labels"].astype(np.int32))
    for part in ("", "validation_")
)
apply_fn, params = mj.functional(mj.CNN(rngs=nnx.Rngs(seed)))
params = {n: {k: jnp.array(problem[f"{n}/{k}"]) for k in layer} for n, layer in params.items()}
tx = optax.adam(1e-3)
eval_step = mj.make_eval_step(apply_fn=apply_fn)
images, labels = on_device(train)
count = len(train.labels)
state = mj.init_state(params, tx)

started = time.perf_counter()
order = epoch_order(seed, 0, count=count, batch_size=BATCH)
batch = take_batch(images, labels, order[0])
step, _ = compile_for(mj.make_train_step(apply_fn=apply_fn, tx=tx), state, batch)
compile_seconds = time.perf_counter() - started
mj.evaluate(eval_step, state.params, validation)  # compiled before the clock runs
steps = steps_per_epoch(count, BATCH)


def train_to(first: int, last: int) -> None:
    global state, order
    for number in range(first, last):
        epoch, place = divmod(number, steps)
        if not place:
            order = epoch_order(seed, epoch, count=count, batch_size=BATCH)
        state, _ = step(state, take_batch(images, labels, order[place]))
    jax.block_until_ready(state)


def accuracy() -> float:
    return mj.evaluate(eval_step, state.params, validation)[0].accuracy


say_facts(
    versions={"jax": jax.__version__, "flax": flax.__version__},
    compile_seconds=compile_seconds,
    **until(targets, train_to, accuracy, steps=epochs * steps, every=every),
)
