"""The small CNN's training step in Keras 3; KERAS_BACKEND chooses what runs it."""

import sys
import time

import numpy as np

from benchmarks.harness.timing import say_facts, windows
from benchmarks.peers.keras_small import small_cnn, start

versions = start(sys.argv[2], int(sys.argv[3]))
problem = np.load(sys.argv[1])
model = small_cnn(problem)
images = problem["images"].astype(np.float32) / np.float32(255)
labels = problem["labels"].astype(np.int32)


def step(i: int) -> float:
    model.reset_metrics()  # else the loss is a running mean
    return float(model.train_on_batch(images[i], labels[i]))


# A long epoch of `fit`, so that what it does once an epoch weighs nothing.
many = 40
flat = np.concatenate([images] * many).reshape(-1, *images.shape[2:])
flat_labels = np.concatenate([labels] * many).reshape(-1)


def run(n: int) -> None:
    rows = n * images.shape[1]
    model.fit(flat[:rows], flat_labels[:rows], batch_size=images.shape[1], verbose=0, shuffle=False)


def run_on_batch(n: int) -> None:
    for i in range(n):
        model.train_on_batch(images[i % len(images)], labels[i % len(images)])


started = time.perf_counter()
losses = [step(0)]
first = time.perf_counter() - started
losses += [step(i) for i in range(1, len(images))]
# Whichever way of training is the faster one counts.
result = min((windows(run), windows(run_on_batch)), key=lambda w: float(np.median(w)))
say_facts(versions=versions, first_seconds=first, losses=losses, windows=result)
