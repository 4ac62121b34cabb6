"""Batches of tf.data: arrays in memory, shuffled whole, batched, scaled in parallel, prefetched."""

import sys
import time

import numpy as np
import tensorflow as tf

from benchmarks.harness.timing import say_facts, windows

BATCH = 128
threads = int(sys.argv[2])
tf.config.threading.set_intra_op_parallelism_threads(threads)
tf.config.threading.set_inter_op_parallelism_threads(threads)
problem = np.load(sys.argv[1])
data = tf.data.Dataset.from_tensor_slices(
    (problem["images"], problem["labels"].astype(np.int32))
).cache()
data = data.shuffle(len(problem["labels"])).batch(BATCH)
data = data.map(
    lambda x, y: (tf.cast(x, tf.float32) / 255, y), num_parallel_calls=tf.data.AUTOTUNE
).prefetch(tf.data.AUTOTUNE)


def run(n: int) -> None:
    for _ in range(n):
        for _batch in data:
            pass


started = time.perf_counter()
next(iter(data))
first = time.perf_counter() - started
checks = [0.0, 0.0]
for x, y in data:
    pixels = tf.reduce_sum(x, (1, 2, 3))
    checks[0] += float(tf.reduce_sum(pixels))
    checks[1] += float(tf.reduce_sum(pixels * tf.cast(y, tf.float32)))
say_facts(
    versions={"tensorflow": tf.__version__},
    first_seconds=first,
    checks=checks,
    windows=windows(run, warm=(1, 1)),
)
