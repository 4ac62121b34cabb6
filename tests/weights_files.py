"""Weight files for tests, tiny or real, in each layout that Keras has written over the years."""

from pathlib import Path

import h5py
import numpy as np

from mnistjax.models.vgg16_table import Table

TINY: Table = {
    "block1_conv1": {"kernel": (3, 3, 3, 4), "bias": (4,)},
    "block1_conv2": {"kernel": (3, 3, 4, 4), "bias": (4,)},
    "block2_conv1": {"kernel": (3, 3, 4, 5), "bias": (5,)},
}


def random_params(table=TINY, seed=0):
    random = np.random.default_rng(seed)
    return {
        layer: {role: random.standard_normal(shape, np.float32) for role, shape in of.items()}
        for layer, of in table.items()
    }


def names(texts):
    return np.array([text.encode() for text in texts] or [], "S")


def legacy(path: Path, params, **options):
    """As the published file: `block1_conv1_W_1:0`, names as fixed-length bytes."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = names([*params, "block5_pool"])
        file.create_group("block5_pool").attrs["weight_names"] = names([])
        for layer, tensors in params.items():
            group = file.create_group(layer)
            spelt = {f"{layer}_{'W' if role == 'kernel' else 'b'}_1:0": role for role in tensors}
            group.attrs["weight_names"] = names(spelt)
            for name, role in spelt.items():
                group.create_dataset(name, data=tensors[role], **options)
    return path


def keras_legacy(path: Path, params, *, prefix="", suffix="", chunked_names=False):
    """As Keras 2 (`suffix` ":0") and Keras 3 write .h5; a whole model has a `prefix`."""
    with h5py.File(path, "w") as file:
        root = file.require_group(prefix) if prefix else file
        _names(root, "layer_names", ["input_layer", *params], chunked_names)
        _names(root.create_group("input_layer"), "weight_names", [], False)
        for layer, tensors in params.items():
            group = root.create_group(layer)
            spelt = {f"{layer}/{role}{suffix}": role for role in tensors}
            _names(group, "weight_names", list(spelt), chunked_names)
            for name, role in spelt.items():
                group.create_dataset(name, data=tensors[role])
    return path


def _names(group, attribute, texts, chunked):
    if not chunked:
        group.attrs[attribute] = texts
        return
    for index, text in enumerate(texts):
        group.attrs[f"{attribute}{index}"] = [text]


def keras_3(path: Path, params):
    """As `save_weights("x.weights.h5")`: groups that sort as conv2d, conv2d_1, conv2d_10."""
    with h5py.File(path, "w") as file:
        file.create_group("layers/input_layer/vars").attrs["name"] = "input_layer"
        for index, (layer, tensors) in enumerate(params.items()):
            group = file.create_group(f"layers/conv2d{f'_{index}' if index else ''}/vars")
            group.attrs["name"] = layer
            for position, role in enumerate(("kernel", "bias")):
                if role in tensors:
                    group.create_dataset(str(position), data=tensors[role])
    return path


WRITERS = {"legacy": legacy, "keras legacy": keras_legacy, "keras 3": keras_3}


def assert_same(params, expected):
    assert {layer: list(of) for layer, of in params.items()} == {
        layer: list(of) for layer, of in expected.items()
    }
    for layer, tensors in expected.items():
        for role, array in tensors.items():
            assert params[layer][role].dtype == np.float32
            np.testing.assert_array_equal(params[layer][role], array, err_msg=f"{layer}/{role}")
