"""Epochs of the small CNN in Keras 3: `fit` on arrays, shuffled."""

import sys
import time

import numpy as np

from benchmarks.harness.timing import say_facts, windows
from benchmarks.peers.keras_small import small_cnn, start

versions = start(sys.argv[2], int(sys.argv[3]))
problem = np.load(sys.argv[1])
model = small_cnn(problem)
batch_size = problem["labels"].shape[1]
images = problem["images"].reshape(-1, 28, 28, 1).astype(np.float32) / np.float32(255)
labels = problem["labels"].reshape(-1).astype(np.int32)


def step(i: int) -> float:
    model.reset_metrics()  # else the loss is a running mean
    rows = slice(i * batch_size, (i + 1) * batch_size)
    return float(model.train_on_batch(images[rows], labels[rows]))


def run(n: int) -> None:
    model.fit(images, labels, batch_size=batch_size, epochs=n, verbose=0, shuffle=True)


started = time.perf_counter()
losses = [step(0)]
first = time.perf_counter() - started
losses += [step(i) for i in range(1, 20)]
say_facts(
    versions=versions,
    first_seconds=first,
    losses=losses,
    windows=windows(run, warm=(1, 1)),
)
