"""Batches of this library: an order from (seed, epoch), images gathered and scaled on the device.

In a scan nothing outlives its turn, so a sum of every batch is taken there.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

import mnistjax as mj
from benchmarks.harness.timing import say_facts, windows
from mnistjax.data.batches import Batch, epoch_order, on_device, take_batch, to_unit
from mnistjax.training.compile import compile_for

BATCH = 128
mode = sys.argv[2]
problem = np.load(sys.argv[1])
images, labels = on_device(mj.Split(problem["images"], problem["labels"].astype(np.int32)))
count = len(labels)
order = epoch_order(0, 0, count=count, batch_size=BATCH)


@jax.jit
def make_batch(images, labels, row) -> Batch:
    batch = take_batch(images, labels, row)
    return batch._replace(images=to_unit(batch.images))


def sums(batch: Batch) -> tuple[jax.Array, jax.Array]:
    pixels = batch.images.sum((1, 2, 3))
    return pixels.sum(), (pixels * batch.labels.astype(jnp.float32)).sum()


@jax.jit
def epoch(images, labels, order):
    return jax.lax.map(lambda row: sums(make_batch(images, labels, row)), order)


if mode == "scan":
    program, compile_seconds = compile_for(epoch, images, labels, order)
    made = program(images, labels, order)
else:
    one, compile_seconds = compile_for(make_batch, images, labels, order[0])
    made = zip(*(sums(one(images, labels, row)) for row in order), strict=True)
checks = [float(np.sum([float(x) for x in part])) for part in made]
epochs = 0


def run(n: int) -> None:
    global epochs
    result = None
    for _ in range(n):
        order = epoch_order(0, epochs, count=count, batch_size=BATCH)
        if mode == "scan":
            result = program(images, labels, order)
        else:
            for row in order:
                result = one(images, labels, row)
        epochs += 1
    jax.block_until_ready(result)


say_facts(
    versions={"jax": jax.__version__},
    first_seconds=compile_seconds,
    checks=checks,
    windows=windows(run, warm=(1, 1)),
)
