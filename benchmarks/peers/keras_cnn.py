"""The small CNN's training step in Keras 3; KERAS_BACKEND chooses what runs it."""

import os
import sys
import time

import numpy as np

threads = int(sys.argv[3])
os.environ["KERAS_BACKEND"] = sys.argv[2]
versions = {}
if sys.argv[2] == "tensorflow":
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    versions["tensorflow"] = tf.__version__
else:
    import jax

    versions["jax"] = jax.__version__
import keras  # noqa: E402
from keras import layers  # noqa: E402

from benchmarks.timing import report, windows  # noqa: E402

problem = np.load(sys.argv[1])
model = keras.Sequential([
    keras.Input((28, 28, 1)),
    layers.Conv2D(32, 3, activation="relu", name="conv1"), layers.MaxPooling2D(),
    layers.Conv2D(64, 3, activation="relu", name="conv2"), layers.MaxPooling2D(),
    layers.Flatten(), layers.Dense(128, activation="relu", name="dense1"),
    layers.Dense(10, name="dense2"),
])  # fmt: skip
for name in ("conv1", "conv2", "dense1", "dense2"):
    model.get_layer(name).set_weights([problem[f"{name}/kernel"], problem[f"{name}/bias"]])
model.compile(
    optimizer=keras.optimizers.Adam(1e-3, epsilon=1e-8),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
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
versions["keras"] = keras.__version__
report(versions=versions, first_seconds=first, losses=losses, windows=result)
