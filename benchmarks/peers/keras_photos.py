"""Photos in Keras on TensorFlow: `image_dataset_from_directory`, cut, resized and prefetched."""

import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf

from benchmarks.harness.timing import say_facts, windows

BATCH, SIZE = 128, 224
threads = int(sys.argv[2])
tf.config.threading.set_intra_op_parallelism_threads(threads)
tf.config.threading.set_inter_op_parallelism_threads(threads)
data: Any = keras.utils.image_dataset_from_directory(
    Path(sys.argv[1]).with_suffix(""),
    image_size=(SIZE, SIZE),
    crop_to_aspect_ratio=True,
    batch_size=BATCH,
    verbose=False,
)
data = data.map(lambda x, y: (x / 255, y), num_parallel_calls=tf.data.AUTOTUNE)
data = data.prefetch(tf.data.AUTOTUNE)


def run(n: int) -> None:
    for _ in range(n):
        for _batch in data:
            pass


started = time.perf_counter()
checks = [0.0, 0.0]
for x, y in data:
    checks[0] += float(tf.reduce_sum(x))
    checks[1] += float(tf.reduce_sum(tf.cast(y, tf.float32)))
first = time.perf_counter() - started
say_facts(
    versions={"tensorflow": tf.__version__, "keras": keras.__version__},
    first_seconds=first,
    checks=checks,
    windows=windows(run, warm=(1,), count=3),
)
