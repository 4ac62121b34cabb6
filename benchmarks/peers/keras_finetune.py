"""Fine-tuning VGG16's head in Keras 3 on TensorFlow: `fit` through the frozen part, or by hand."""

import os
import sys
from typing import Any

import numpy as np

mode, (epochs, batch_size, size, threads) = sys.argv[2], map(int, sys.argv[3:7])
os.environ["KERAS_BACKEND"] = "tensorflow"
import tensorflow as tf  # noqa: E402

tf.config.threading.set_intra_op_parallelism_threads(threads)
tf.config.threading.set_inter_op_parallelism_threads(threads)
import keras  # noqa: E402
from keras import layers  # noqa: E402
from keras.applications import vgg16  # noqa: E402

from benchmarks.harness.timing import say_facts, whole_jobs  # noqa: E402

problem = np.load(sys.argv[1])
untrained: Any = None  # Keras says "str", and means a name, a path or None
base: Any = vgg16.VGG16(weights=untrained, include_top=False, input_shape=(size, size, 3))
base.trainable = False
head = keras.Sequential([
    keras.Input(base.output_shape[1:]), layers.Flatten(),
    layers.Dense(256, activation="relu", name="dense1"), layers.Dense(10, name="dense2"),
])  # fmt: skip
for layer in (*base.layers, *head.layers):
    if layer.weights:
        layer.set_weights([problem[f"{layer.name}/{role}"] for role in ("kernel", "bias")])
trained: Any = (
    keras.Sequential([keras.Input((size, size, 3)), base, head]) if mode == "fit" else head
)
trained.compile(
    optimizer=keras.optimizers.Adam(1e-3, epsilon=1e-8),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
trained.optimizer.build(trained.trainable_variables)
variables = [*trained.trainable_variables, *trained.optimizer.variables]
first = [variable.numpy() for variable in variables]
losses: list[float] = []


class StepLosses(keras.callbacks.Callback):
    """The loss of every step, out of the running means that `fit` reports."""

    def on_epoch_begin(self, epoch, logs=None):
        self.total = 0.0

    def on_train_batch_end(self, batch, logs: Any = None):
        total = logs["loss"] * (batch + 1)
        losses.append(float(total - self.total))
        self.total = total


def job(pixels: np.ndarray = problem["images"], epochs: int = epochs) -> None:
    losses.clear()
    for variable, value in zip(variables, first, strict=True):
        variable.assign(value)
    large = tf.image.resize(pixels, (size, size), method="bilinear", antialias=False)
    images = vgg16.preprocess_input(np.repeat(large, 3, axis=-1))
    if mode == "by_hand":
        images = base.predict(images, batch_size=batch_size, verbose=0)
    labels = problem["labels"][: len(pixels)].astype(np.int32)
    trained.fit(
        images,
        labels,
        batch_size=batch_size,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[StepLosses()],
    )


def part() -> None:
    job(problem["images"][:batch_size], 1)


times = whole_jobs(job, count=2) if mode == "by_hand" else whole_jobs(job, part=part)
say_facts(
    versions={"tensorflow": tf.__version__, "keras": keras.__version__},
    losses=losses,
    share=1 / epochs if mode == "by_hand" else 1,
    **times,
)
