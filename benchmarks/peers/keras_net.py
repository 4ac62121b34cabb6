"""A network of the field in Keras 3: `forward`, or a training step; KERAS_BACKEND runs it."""

import sys
import time
from typing import Any

import numpy as np

from benchmarks.harness.timing import say_facts, windows
from benchmarks.peers.keras_small import start

STEPS = 3
name, what = sys.argv[2:4]
versions = start("tensorflow", int(sys.argv[4]))
import keras  # noqa: E402  after KERAS_BACKEND is set

from benchmarks.peers.keras_net_model import network  # noqa: E402

problem = np.load(sys.argv[1])
model = network(problem, name)
images, labels = problem["images"], problem["labels"].astype(np.int32)
model.compile(
    keras.optimizers.SGD(0.01, momentum=0.9),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)


def run(n: int) -> Any:
    result = None
    for _ in range(n):
        result = step()
    return result


def step() -> Any:
    if what == "forward":
        return model.predict_on_batch(images)
    model.reset_metrics()  # else the loss is a running mean
    return float(model.train_on_batch(images, labels))


started = time.perf_counter()
done = run(1)
first = time.perf_counter() - started
if what == "forward":
    logits = np.abs(done).reshape(-1, done.shape[-1])
    facts = {"checks": logits.mean(0).tolist(), "windows": windows(run)}
else:
    losses = [done, *(run(1) for _ in range(STEPS - 1))]
    facts = {"losses": losses, "windows": windows(run, count=3, warm=(1,))}
say_facts(versions=versions, first_seconds=first, **facts)
