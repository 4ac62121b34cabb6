"""Epochs of the small CNN in this library: one scan over the epoch's batches, or `fit`'s calls."""

import sys
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import mnistjax as mj
from benchmarks.harness.timing import say_facts, windows
from mnistjax.data.batches import epoch_order, file_order, on_device, take_batch
from mnistjax.training.calls import InLoops, calls_from, make_loop, wants_loops
from mnistjax.training.compile import compile_for

mj.keep_host_memory()

mode = sys.argv[2]
problem = np.load(sys.argv[1])
steps, batch_size = problem["labels"].shape
count = steps * batch_size
apply_fn, params = mj.functional(mj.CNN(rngs=nnx.Rngs(0)))
params = {n: {k: jnp.array(problem[f"{n}/{k}"]) for k in layer} for n, layer in params.items()}
tx = optax.adam(1e-3)
train_step = mj.make_train_step(apply_fn=apply_fn, tx=tx)
split = mj.Split(
    problem["images"].reshape(count, 28, 28, 1), problem["labels"].reshape(count).astype(np.int32)
)
images, labels = on_device(split)
state = mj.init_state(params, tx)
first_order = file_order(count=count, batch_size=batch_size)


def epoch(state, images, labels, order):
    return jax.lax.scan(lambda s, row: train_step(s, take_batch(images, labels, row)), state, order)


if mode == "scan":
    program, compile_seconds = compile_for(
        jax.jit(epoch, donate_argnums=0), state, images, labels, first_order
    )
else:
    if wants_loops():
        arrays = (images, labels, first_order, np.int32(0), np.int32(0))
        loop, compile_seconds = compile_for(make_loop(train_step), state, *arrays)
        step = InLoops(train_step, loop)
    else:
        first = take_batch(images, labels, first_order[0])
        step, compile_seconds = compile_for(train_step, state, first)
    calls_of = calls_from(split, step)

    def program(state, images, labels, order) -> tuple[mj.TrainState, Any]:
        told, late = [], []  # fetched a call late, as `fit` does
        for call in calls_of(order):
            state, measured = call.advance(state)
            told += [one for steps, metrics in late for one in metrics.each(steps)]
            late = [(call.steps, measured)]
        return state, told + [one for steps, metrics in late for one in metrics.each(steps)]


epochs = 0


def run(n: int) -> None:
    global state, epochs
    for _ in range(n):
        order = epoch_order(0, epochs, count=count, batch_size=batch_size)
        state, _ = program(state, images, labels, order)
        epochs += 1
    jax.block_until_ready(state)


state, metrics = program(state, images, labels, first_order)
if mode == "scan":
    losses = (metrics.loss_sum / metrics.count).tolist()
else:
    losses = [one.loss for one in metrics]
say_facts(
    versions={"jax": jax.__version__, "flax": flax.__version__},
    first_seconds=compile_seconds,
    losses=losses[:20],
    windows=windows(run, warm=(1,)),
)
