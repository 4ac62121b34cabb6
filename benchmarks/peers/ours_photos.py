"""Batches of this library from a folder of photos: read once into its cache, then gathered."""

import os
import sys
import tempfile
import time
from collections import deque
from contextlib import closing
from pathlib import Path

import jax
import numpy as np

import mnistjax as mj
from benchmarks.harness.timing import say_facts, windows
from mnistjax.data.batches import epoch_order, to_unit
from mnistjax.data.prefetch import batches_from

BATCH, SIZE = 128, 224
cache = tempfile.TemporaryDirectory()
os.environ["MNISTJAX_CACHE"] = cache.name
started = time.perf_counter()
photos = mj.Photos(size=SIZE)
data = mj.load_dataset("folder", Path(sys.argv[1]).with_suffix(""), photos=photos)
images = np.concatenate([data.train.images, data.test.images])  # peers part none off
whole = mj.Split(images, np.concatenate([data.train.labels, data.test.labels]))
batches_of, as_input = batches_from(whole), jax.jit(to_unit)
first = time.perf_counter() - started


def epoch(number: int):
    order = epoch_order(0, number, count=len(whole.labels), batch_size=BATCH)
    with closing(batches_of(order)) as batches:
        for batch in batches:
            yield batch._replace(images=as_input(batch.images))


def run(n: int) -> None:
    for number in range(n):
        last = deque(epoch(number), maxlen=1)
        jax.block_until_ready(last.pop().images)


counted = [(float(b.images.sum()), float((b.labels * b.mask).sum())) for b in epoch(0)]
say_facts(
    versions={"jax": jax.__version__},
    first_seconds=first,
    checks=[*np.sum(counted, axis=0)],
    windows=windows(run, warm=(1, 1)),
)
