"""The small CNN in Keras 3 with the problem's first parameters, compiled to train."""

import os
import sys
from typing import Any

from benchmarks.harness.timing import on_gpu


def start(backend: str, threads: int) -> dict[str, str]:
    """Let Keras run on `backend` with `threads`, before anything imports it; the versions."""
    os.environ["KERAS_BACKEND"] = backend
    if backend == "tensorflow":
        import tensorflow as tf

        if on_gpu() and not tf.config.list_physical_devices("GPU"):
            sys.exit("this TensorFlow has no CUDA")
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        versions = {"tensorflow": tf.__version__}
    else:
        import jax

        versions = {"jax": jax.__version__}
    import keras

    return versions | {"keras": keras.__version__}


def network() -> Any:
    """Compiled to train."""
    import keras
    from keras import layers

    model = keras.Sequential([
        keras.Input((28, 28, 1)),
        layers.Conv2D(32, 3, activation="relu", name="conv1"), layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu", name="conv2"), layers.MaxPooling2D(),
        layers.Flatten(), layers.Dense(128, activation="relu", name="dense1"),
        layers.Dense(10, name="dense2"),
    ])  # fmt: skip
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3, epsilon=1e-8),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def small_cnn(problem: Any) -> Any:
    """The same with the problem's parameters."""
    model = network()
    for name in ("conv1", "conv2", "dense1", "dense2"):
        model.get_layer(name).set_weights([problem[f"{name}/kernel"], problem[f"{name}/bias"]])
    return model
