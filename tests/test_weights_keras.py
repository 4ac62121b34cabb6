"""Parity with Keras itself: a VGG16 with random weights, saved by Keras in each of its layouts."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights_files import assert_same, legacy

from mnistjax.errors import DataError
from mnistjax.frozen.forward import make_frozen
from mnistjax.models.vgg16_table import TOP, table
from mnistjax.weights.preprocess import caffe, to_vgg_input
from mnistjax.weights.source import load_weights


@pytest.fixture(scope="session")
def keras_params(keras_vgg16):
    return {
        layer.name: dict(zip(("kernel", "bias"), map(np.asarray, layer.get_weights()), strict=True))
        for layer in keras_vgg16.layers
        if layer.get_weights()
    }


@pytest.fixture(scope="session")
def keras_files(keras_vgg16, keras_params, tmp_path_factory):
    from keras.src.legacy.saving import legacy_h5_format

    directory = tmp_path_factory.mktemp("keras")
    keras_vgg16.save_weights(directory / "keras3.weights.h5")
    keras_vgg16.save(directory / "whole.h5")
    with h5py.File(directory / "weights_only.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, keras_vgg16)
    # What Keras publishes was written by a Keras of 2016; the top's shapes are never looked at.
    top = {layer: {"kernel": np.zeros((2, 2), "f4"), "bias": np.zeros(2, "f4")} for layer in TOP}
    legacy(directory / "published.h5", keras_params)
    legacy(directory / "published_top.h5", keras_params | top)
    return directory


def test_keras_runs_on_jax_and_keeps_to_its_directory(keras_vgg16):
    import keras

    assert keras.backend.backend() == "jax"
    assert "tensorflow" not in sys.modules
    assert Path(os.environ["KERAS_HOME"], "keras.json").is_file()


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("keras3.weights.h5", "keras 3"),
        ("whole.h5", "keras legacy"),
        ("weights_only.h5", "keras legacy"),
        ("published.h5", "legacy"),
        ("published_top.h5", "legacy"),
    ],
)
def test_arrays_equal_those_of_keras(keras_files, keras_params, name, layout):
    weights = load_weights(keras_files / name, cut="block5")
    assert_same(weights.params, keras_params)
    assert weights.layout == layout
    assert weights.ignored == (TOP if "top" in name else ())
    assert weights.origin == f"file {name}"


def test_a_cut_takes_the_first_blocks_and_names_the_rest(keras_files, keras_params):
    weights = load_weights(keras_files / "keras3.weights.h5", cut="block3")
    assert_same(weights.params, {layer: keras_params[layer] for layer in table("block3")})
    assert sorted((*weights.params, *weights.ignored)) == sorted(keras_params)


def test_logits_of_the_whole_network_equal_those_of_keras(tmp_path):
    """Features from a file with the top, then the top's own three layers, written out."""
    import keras

    images = np.random.default_rng(2).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        model = keras.applications.VGG16(
            weights=None,  # type: ignore[arg-type]  a random network
            input_shape=(32, 32, 3),
            classes=10,
            classifier_activation=None,  # type: ignore[arg-type]  logits
        )
        x = keras.applications.vgg16.preprocess_input(images.astype(np.float32))
        expected = np.asarray(model(x), np.float64)
    model.save_weights(tmp_path / "top.weights.h5")

    weights = load_weights(tmp_path / "top.weights.h5", cut="block5")
    assert weights.ignored == TOP
    blocks = [f"block{n}" for n in range(1, 6)]
    constant, apply_fn = make_frozen(weights.params, blocks=blocks, image_size=32)
    x = jax.jit(apply_fn)(constant, weights.preprocess(32)(jnp.asarray(images)))
    x = np.asarray(x, np.float64).reshape(2, -1)
    for layer in TOP:
        kernel, bias = model.get_layer(layer).get_weights()
        x = np.maximum(x, 0) @ kernel + bias
    assert np.linalg.norm(x - expected) < 1e-5 * np.linalg.norm(expected)


def test_only_arrays_are_read_never_code(keras_vgg16, keras_files):
    """A model's .h5 may carry code, which Keras runs on loading: nothing here looks at it."""
    code = (
        "import sys; from mnistjax import load_weights\n"
        "load_weights(sys.argv[1], cut='block3', quiet=True)\n"
        "print([name for name in ('keras', 'jax', 'tensorflow') if name in sys.modules])"
    )
    path = str(keras_files / "whole.h5")
    with h5py.File(path) as file:
        assert "model_config" in file.attrs
    command = [sys.executable, "-c", code, path]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_preprocessing_equals_keras_exactly(keras_vgg16):
    from keras.applications.vgg16 import preprocess_input

    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    ours = np.asarray(caffe(jnp.asarray(images)))
    np.testing.assert_array_equal(ours, preprocess_input(images.copy()))
    np.testing.assert_array_equal(np.asarray(jax.jit(caffe)(jnp.asarray(images))), ours)


@pytest.mark.parametrize(("channels", "size"), [(1, 48), (3, 48), (3, 11)])
def test_input_is_resized_coloured_and_centred(keras_vgg16, channels, size):
    import keras

    images = np.random.default_rng(1).integers(0, 256, (2, 28, 28, channels)).astype(np.uint8)
    ours = jax.jit(load_weights("random", cut="block3").preprocess(size))(jnp.asarray(images))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        resized = np.asarray(keras.layers.Resizing(size, size)(images.astype(np.float32)))
    rgb = np.repeat(resized, 3, axis=-1) if channels == 1 else resized
    expected = keras.applications.vgg16.preprocess_input(rgb.copy())
    np.testing.assert_allclose(np.asarray(ours), np.asarray(expected), atol=1e-4)
    assert ours.dtype == jnp.float32


def test_other_numbers_of_channels_are_refused():
    with pytest.raises(DataError, match="4 channels"):
        to_vgg_input(jnp.zeros((1, 28, 28, 4), jnp.uint8), size=32)
