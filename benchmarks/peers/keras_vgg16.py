"""VGG16's 13 convolutions forward in Keras 3, `predict_on_batch`; KERAS_BACKEND runs it."""

import os
import sys
import time
from typing import Any

import numpy as np

backend, dtype, threads = sys.argv[2], sys.argv[3], int(sys.argv[4])
os.environ["KERAS_BACKEND"] = backend
versions = {}
if backend == "tensorflow":
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    versions["tensorflow"] = tf.__version__
else:
    import jax

    versions["jax"] = jax.__version__
import keras  # noqa: E402

from benchmarks.harness.timing import say_facts, windows  # noqa: E402

if dtype == "bfloat16":
    keras.config.set_dtype_policy("mixed_bfloat16")
problem = np.load(sys.argv[1])
images = problem["images"]
untrained: Any = None  # Keras says "str", and means a name, a path or None
model = keras.applications.VGG16(weights=untrained, include_top=False, input_shape=images.shape[1:])
for layer in model.layers:
    if "conv" in layer.name:
        layer.set_weights([problem[f"{layer.name}/kernel"], problem[f"{layer.name}/bias"]])


def run(n: int) -> np.ndarray:
    features = images
    for _ in range(n):
        features = model.predict_on_batch(images)
    return np.asarray(features, np.float32)


started = time.perf_counter()
features = run(1)
first = time.perf_counter() - started
versions["keras"] = keras.__version__
say_facts(
    versions=versions,
    first_seconds=first,
    checks=np.abs(features).mean((0, 1, 2)).tolist(),
    windows=windows(run),
)
