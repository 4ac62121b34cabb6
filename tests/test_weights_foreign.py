"""Fine-tuned models, old Keras 3 files, bfloat16, Theano's kernels and torchvision's VGG16.

The layouts are those that Keras 3.0.5, 3.3.3, 3.5.0 and 3.15.1 wrote of such models.
"""

import zipfile
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from jax import lax
from weights_files import TINY, assert_same, keras_3, keras_legacy, names, random_params

from mnistjax import cli
from mnistjax.errors import WeightsError
from mnistjax.frozen.forward import make_frozen
from mnistjax.models.vgg16_table import table
from mnistjax.weights.__main__ import WeightsConfig, main
from mnistjax.weights.read import read_hdf5
from mnistjax.weights.source import load_weights

PARAMS = random_params()
BLOCK3 = random_params(table("block3"))
HEAD = {"dense": {"kernel": np.ones((6, 5), "f4"), "bias": np.ones(5, "f4")}}
NUMBERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
LEFT_OUT = "left out, not VGG16's: dense"


def nested_legacy(path, params, *, suffix="", mark=""):
    """A Sequential of VGG16 and a head, saved as .h5; TensorFlow 1 put a `mark` to its names."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = ["vgg16", "flatten", "dense"]
        root.create_group("flatten").attrs["weight_names"] = names([])
        for group, layers, scope in (("vgg16", params, ""), ("dense", HEAD, "sequential/")):
            spelt = {}
            for layer, of in layers.items():
                inner = layer + (mark if group == "vgg16" else "")
                spelt |= {f"{scope}{inner}/{role}{suffix}": a for role, a in of.items()}
            inside = root.create_group(group)
            inside.attrs["weight_names"] = list(spelt)
            for name, values in spelt.items():
                inside[name] = values
    return path


def write_layers(group, layers, *, named=True, first=0):
    for index, (layer, of) in enumerate(layers.items(), first):
        key = f"conv2d{f'_{index}' if index else ''}"
        variables = group.create_group(f"layers/{key}/vars")
        if named:
            variables.attrs["name"] = layer
        for position, values in enumerate(of.values()):
            variables[str(position)] = values


def nested_keras_3(path, params, *, place="layers/functional", named=True, optimizer=False):
    """VGG16 below another model: a layer of it, or an attribute of a subclass."""
    with h5py.File(path, "w") as file:
        file.create_group("vars")
        write_layers(file.require_group(place), params, named=named)
        variables = file.create_group("layers/dense/vars")
        variables["0"], variables["1"] = HEAD["dense"].values()
        file.create_group("layers/dropout/seed_generator/vars")["0"] = np.zeros(2, "u4")
        if named:
            variables.attrs["name"] = "dense"
            file["layers/dropout/seed_generator/vars"].attrs["name"] = "seed_generator"
        if optimizer:
            moments = file.create_group("optimizer/vars")
            moments.attrs["name"] = "adam"
            moments["0"] = np.int32(1)
    return path


def zipped(path, weights, *, compression=zipfile.ZIP_STORED, member="model.weights.h5"):
    """A .keras archive around a file of weights."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        archive.writestr("config.json", "{}")
        archive.writestr(member, weights.read_bytes())
    return path


def refused(path, says, wanted=TINY):
    with pytest.raises(WeightsError, match=says) as error:
        read_hdf5(path, wanted)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("options", [{}, {"suffix": ":0"}, {"suffix": ":0", "mark": "_2"}])
def test_a_model_within_a_model_saved_as_h5(tmp_path, options):
    reading = read_hdf5(nested_legacy(tmp_path / "x.h5", PARAMS, **options), TINY)
    assert_same(reading.params, PARAMS)
    assert reading.notes == (LEFT_OUT,) and reading.ignored == ()


@pytest.mark.parametrize("place", ["layers/functional", "layers/sequential/layers/a", "base"])
def test_a_model_within_a_model_saved_by_keras_3(tmp_path, place):
    reading = read_hdf5(nested_keras_3(tmp_path / "x.h5", PARAMS, place=place), TINY)
    assert_same(reading.params, PARAMS)
    assert set(reading.notes[0].partition(": ")[2].split(", ")) == {"dense", "seed_generator"}


def test_the_optimiser_of_a_compiled_model_is_left_out(tmp_path):
    path = nested_keras_3(tmp_path / "x.h5", PARAMS, optimizer=True)
    assert "adam" in read_hdf5(path, TINY).notes[0]


@pytest.mark.parametrize("write", [keras_3, keras_legacy])
def test_a_head_on_top_of_a_flat_model(tmp_path, write):
    reading = read_hdf5(write(tmp_path / "x.h5", PARAMS | HEAD), TINY)
    assert_same(reading.params, PARAMS)
    assert reading.notes == (LEFT_OUT,)


def test_a_layer_between_the_convolutions_is_another_network(tmp_path):
    first, *rest = PARAMS
    norm = {"batch_normalization": {"gamma": np.ones(4, "f4")}}
    mixed = {first: PARAMS[first]} | norm | {layer: PARAMS[layer] for layer in rest}
    refused(keras_legacy(tmp_path / "x.h5", mixed), "batch_normalization lies between VGG16's")


def test_vgg19_within_a_model_is_refused(tmp_path):
    more = {"block3_conv4": {"kernel": np.ones((3, 3, 4, 4), "f4")}}
    for write in (nested_legacy, nested_keras_3):
        refused(write(tmp_path / "x.h5", PARAMS | more), "block3_conv4/kernel is not of VGG16")


def test_another_network_is_told_by_what_it_holds(tmp_path):
    refused(keras_3(tmp_path / "x.h5", HEAD), "none of VGG16's layers is in it, but dense")


def test_two_vgg16_in_one_file_are_refused(tmp_path):
    path = nested_keras_3(tmp_path / "x.h5", PARAMS)
    with h5py.File(path, "r+") as file:
        write_layers(file.create_group("layers/functional_1"), PARAMS)
    refused(path, "a second block1_conv1")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_keras_archives_are_read_where_they_lie(tmp_path, compression):
    inner = nested_keras_3(tmp_path / "x.weights.h5", BLOCK3)
    path = zipped(tmp_path / "x.keras", inner, compression=compression)
    weights = load_weights(path, cut="block3")
    assert_same(weights.params, BLOCK3)
    assert weights.layout == "keras 3" and weights.origin == "file x.keras"
    assert weights.notice.startswith("x.keras: left out, not VGG16's: dense")


def test_inspect_says_once_what_was_left_out(tmp_path, capsys):
    zipped(tmp_path / "x.keras", nested_keras_3(tmp_path / "x.h5", BLOCK3))
    assert cli.run(WeightsConfig, main, ("inspect", str(tmp_path / "x.keras"))) == 0
    assert capsys.readouterr().out.count("left out") == 1


def test_archives_that_are_no_models_are_refused(tmp_path):
    inner, path = keras_3(tmp_path / "x.h5", PARAMS), tmp_path / "x.keras"
    refused(zipped(path, inner, member="variables.h5"), "0 files model.weights.h5")
    refused(zipped(path, inner, member="model.weights.json"), "cut into several files")
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for _ in range(2):
            archive.writestr("model.weights.h5", inner.read_bytes())
    refused(path, "2 files model.weights.h5")


def test_an_archive_of_zeros_without_end_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("mnistjax.weights.keras_zip._MOST_UNPACKED", 10_000)
    (tmp_path / "x.h5").write_bytes(bytes(20_000))
    path = zipped(tmp_path / "x.keras", tmp_path / "x.h5", compression=zipfile.ZIP_DEFLATED)
    refused(path, "too large to unpack")


def test_a_changed_weight_in_an_archive_is_seen(tmp_path):
    """The archive has a checksum, which a bare HDF5 file has not."""
    path = zipped(tmp_path / "x.keras", keras_3(tmp_path / "x.h5", PARAMS))
    data = bytearray(path.read_bytes())
    data[data.index(PARAMS["block1_conv2"]["bias"].tobytes())] ^= 1
    path.write_bytes(data)
    refused(path, "damaged or cut short .Bad CRC-32")


def test_an_archive_cut_short_is_refused(tmp_path):
    data = zipped(tmp_path / "x.keras", keras_3(tmp_path / "x.h5", PARAMS)).read_bytes()
    for length in range(8, len(data), 997):
        (tmp_path / "x.keras").write_bytes(data[:length])
        refused(tmp_path / "x.keras", "damaged or cut short")


@pytest.mark.parametrize("place", ["layers/functional", "base", "/"])
def test_layers_without_names_go_by_number_where_every_shape_fits(tmp_path, place):
    """conv2d_10 sorts before conv2d_2."""
    many = {f"block5_conv{n}": {"kernel": (3, 3, 2, 2), "bias": (2,)} for n in range(1, 14)}
    params = random_params(many)
    path = nested_keras_3(tmp_path / "x.h5", params, place=place, named=False)
    reading = read_hdf5(path, many)
    assert_same(reading.params, params)
    assert "told by their order and shapes" in reading.notes[1]


def test_all_of_vgg16_is_found_among_strangers(tmp_path, monkeypatch):
    monkeypatch.setattr("mnistjax.weights.keras_3.table", lambda cut="": TINY)
    around = {"conv": {"kernel": np.ones((1, 1, 3, 3), "f4"), "bias": np.ones(3, "f4")}}
    with h5py.File(tmp_path / "x.h5", "w") as file:
        write_layers(file, around | PARAMS | {"last": around["conv"]}, named=False)
    reading = read_hdf5(tmp_path / "x.h5", TINY)
    assert_same(reading.params, PARAMS)
    assert reading.notes[0] == "left out, not VGG16's: conv2d, conv2d_4"


@pytest.mark.parametrize("more", [3, 4], ids=["vgg19 begins the same", "another order"])
def test_without_names_nothing_is_guessed(tmp_path, more):
    layers = dict(PARAMS)
    if more == 3:
        layers["fourth"] = {"kernel": np.ones((3, 3, 5, 5), "f4"), "bias": np.ones(5, "f4")}
    else:
        layers = dict(reversed(layers.items()))
    path = nested_keras_3(tmp_path / "x.h5", layers, named=False)
    refused(path, "no names, and no convolutions of VGG16's shapes in order")


def test_two_models_without_names_are_refused(tmp_path):
    path = nested_keras_3(tmp_path / "x.h5", PARAMS, named=False)
    with h5py.File(path, "r+") as file:
        write_layers(file.create_group("layers/functional_1"), PARAMS, named=False)
    refused(path, "no names, and two models")


def test_groups_in_a_circle_come_to_an_end(tmp_path):
    for name, of in (("itself", "layers/dense"), ("all", "/"), ("twice", "layers/conv2d")):
        path = keras_3(tmp_path / f"{name}.h5", PARAMS)
        with h5py.File(path, "r+") as file:
            file.create_group("layers/dense")
            file["layers/dense/a"] = file[of]
        refused(path, "has another place")


def test_groups_too_deep_come_to_an_end(tmp_path):
    path = keras_3(tmp_path / "x.h5", PARAMS)
    with h5py.File(path, "r+") as file:
        file.create_group("layers/dense" + 40 * "/a")
    refused(path, "more groups within groups")


@pytest.mark.parametrize("said", [True, False], ids=["keras 3", "keras legacy"])
def test_bfloat16_becomes_float32(tmp_path, said):
    half = {
        layer: {role: a.astype(ml_dtypes.bfloat16) for role, a in of.items()}
        for layer, of in PARAMS.items()
    }
    stored = {layer: {r: a.view("V2") for r, a in of.items()} for layer, of in half.items()}
    path = (keras_3 if said else keras_legacy)(tmp_path / "x.h5", stored)
    if said:
        with h5py.File(path, "r+") as file:
            file.visititems(
                lambda _, at: (
                    at.attrs.update({"dtype": "bfloat16"}) if isinstance(at, h5py.Dataset) else None
                )
            )
    expected = {layer: {r: a.astype("f4") for r, a in of.items()} for layer, of in half.items()}
    assert_same(read_hdf5(path, TINY).params, expected)


def test_other_opaque_bytes_are_refused(tmp_path):
    stored = PARAMS | {"block1_conv1": {"kernel": np.zeros((3, 3, 3, 4), "V2")}}
    path = keras_3(tmp_path / "x.h5", stored)
    with h5py.File(path, "r+") as file:
        file["layers/conv2d/vars/0"].attrs["dtype"] = "float8"
        file["layers/conv2d/vars/1"] = PARAMS["block1_conv1"]["bias"]
    refused(path, "type .V2, not a float")


@pytest.mark.parametrize("backend", ["theano", np.bytes_(b"theano"), "Theano"])
@pytest.mark.parametrize("place", ["/", "model_weights"])
def test_theanos_kernels_are_turned_and_that_is_said(tmp_path, backend, place):
    prefix = "model_weights" if place != "/" else ""
    turned = {
        layer: {r: a[::-1, ::-1] if r == "kernel" else a for r, a in of.items()}
        for layer, of in PARAMS.items()
    }
    path = keras_legacy(tmp_path / "x.h5", turned, prefix=prefix)
    with h5py.File(path, "r+") as file:
        file[place].attrs["backend"] = backend
    reading = read_hdf5(path, TINY)
    assert_same(reading.params, PARAMS)
    assert reading.notes == ("saved by Keras on Theano: kernels turned by 180 degrees",)


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch", "cntk"])
def test_the_kernels_of_others_stay(tmp_path, backend):
    path = keras_legacy(tmp_path / "x.h5", PARAMS)
    with h5py.File(path, "r+") as file:
        file.attrs["backend"] = backend
    assert_same(read_hdf5(path, TINY).params, PARAMS)


def test_a_file_called_theanos_is_refused(tmp_path):
    path = keras_legacy(tmp_path / "vgg16_tf_dim_ordering_th_kernels.h5", BLOCK3)
    with pytest.raises(WeightsError, match="Theano's.*Fix: pass the file with tf_kernels"):
        load_weights(path, cut="block3")


def torchvision(path, params=BLOCK3, *, prefix="", numbers=NUMBERS, dtype="f4", more=()):
    """As `safetensors.torch.save_file(vgg16().state_dict())`; classifier as in the whole model."""
    flat = {"classifier.0.weight": np.ones((4, 6), "f4"), "classifier.0.bias": np.ones(4, "f4")}
    for number, of in zip(numbers, params.values(), strict=False):
        kernel = np.ascontiguousarray(of["kernel"].transpose(3, 2, 0, 1))
        flat |= {f"features.{number}.weight": kernel.astype(dtype)}
        flat |= {f"features.{number}.bias": of["bias"].astype(dtype)}
    flat = {prefix + key: values for key, values in (flat | dict(more)).items()}
    safetensors.numpy.save_file(flat, path)
    return path


@pytest.mark.parametrize("prefix", ["", "module.", "model.backbone."])
def test_torchvisions_vgg16_is_read(tmp_path, prefix):
    weights = load_weights(torchvision(tmp_path / "x.safetensors", prefix=prefix), cut="block3")
    assert_same(weights.params, BLOCK3)
    assert (weights.layout, weights.pixels) == ("torchvision", "torch")
    assert weights.ignored == (f"{prefix}classifier.0",) and weights.notice == ""
    assert weights.origin == "file x.safetensors"


@pytest.mark.parametrize("dtype", ["f2", "f8", ml_dtypes.bfloat16])
def test_torchvisions_other_floats_become_float32(tmp_path, dtype):
    weights = load_weights(torchvision(tmp_path / "x.safetensors", dtype=dtype), cut="block3")
    for layer, of in BLOCK3.items():
        expected = of["kernel"].astype(dtype).astype("f4")
        np.testing.assert_array_equal(weights.params[layer]["kernel"], expected)


def reference(images, params):
    """VGG16 of torchvision, block by block, with its own pixels: NCHW and OIHW as it has them."""
    x = images.astype(np.float64).transpose(0, 3, 1, 2) / 255
    x -= np.array([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
    x /= np.array([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
    x = jnp.asarray(x, jnp.float32)
    for layer, of in params.items():
        if layer.endswith("conv1") and layer != "block1_conv1":
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        kernel = of["kernel"].transpose(3, 2, 0, 1)
        x = lax.conv_general_dilated(x, jnp.asarray(kernel), (1, 1), [(1, 1), (1, 1)])
        x = jnp.maximum(x + of["bias"].reshape(1, -1, 1, 1), 0)
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    return np.asarray(x, np.float64).transpose(0, 2, 3, 1)


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)


def features(weights):
    blocks = ["block1", "block2", "block3"]
    constant, apply_fn = make_frozen(weights.params, blocks=blocks, image_size=32)
    x = weights.preprocess(32)(jnp.asarray(IMAGES))
    return np.asarray(jax.jit(apply_fn)(constant, x), np.float64)


def test_features_of_torchvisions_weights_are_those_of_torchvisions_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torchvision(tmp_path / "x.safetensors")
    expected = reference(IMAGES, BLOCK3)
    argv = ("convert", "x.safetensors", "--cut", "block3", "--output", "y.safetensors")
    assert cli.run(WeightsConfig, main, argv) == 0
    for name in ("x.safetensors", "y.safetensors"):  # the conversion keeps the preprocessing
        ours = features(load_weights(tmp_path / name, cut="block3"))
        assert np.linalg.norm(ours - expected) < 1e-5 * np.linalg.norm(expected), name


def test_features_equal_those_of_torch(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    F = torch.nn.functional
    x = torch.from_numpy(IMAGES.astype(np.float32).transpose(0, 3, 1, 2)) / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    for layer, of in BLOCK3.items():
        if layer.endswith("conv1") and layer != "block1_conv1":
            x = F.max_pool2d(x, 2)
        kernel = np.ascontiguousarray(of["kernel"].transpose(3, 2, 0, 1))
        x = F.relu(F.conv2d(x, torch.from_numpy(kernel), torch.from_numpy(of["bias"]), padding=1))
    expected = F.max_pool2d(x, 2).numpy().astype(np.float64).transpose(0, 2, 3, 1)
    ours = features(load_weights(torchvision(tmp_path / "x.safetensors"), cut="block3"))
    assert np.linalg.norm(ours - expected) < 1e-5 * np.linalg.norm(expected)


def test_other_networks_of_torchvision_are_refused_by_name(tmp_path):
    path = tmp_path / "x.safetensors"
    many = {
        f"layer{n}": {"kernel": np.ones((3, 3, 2, 2), "f4"), "bias": np.ones(2, "f4")}
        for n in range(16)
    }
    normed = [("features.1.running_mean", np.ones(2, "f4"))]
    thirteen = dict(list(many.items())[:13])
    vgg19 = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"params": thirteen, "numbers": range(0, 39, 3), "more": normed}, "vgg16_bn: features.1"),
        ({"params": many, "numbers": vgg19}, "torchvision's vgg19"),
        ({"params": dict(list(many.items())[:5]), "numbers": (0, 3, 6, 8, 10)}, "another network"),
        ({"more": [("other.features.0.weight", np.ones(1, "f4"))]}, "features of two networks"),
        ({"more": [("classifier.0.bias", np.full(4, np.nan, "f4"))]}, "IMAGENET1K_FEATURES"),
        ({"dtype": "i4"}, "is I32, not a float"),
        ({"numbers": NUMBERS[:6]}, "block3_conv3 is missing"),
    ]
    for wrong, says in cases:
        with pytest.raises(WeightsError, match=says):
            load_weights(torchvision(path, **wrong), cut="block3")


def test_unknown_preprocessing_is_refused(tmp_path):
    flat = {f"{layer}/{role}": a for layer, of in BLOCK3.items() for role, a in of.items()}
    metadata = {"schema": "mnistjax-vgg16-1", "preprocessing": "zscore"}
    safetensors.numpy.save_file(flat, tmp_path / "x.safetensors", metadata)
    with pytest.raises(WeightsError, match="preprocessing zscore, not one of caffe, torch"):
        load_weights(tmp_path / "x.safetensors", cut="block3")


def test_keras_itself_writes_such_files(keras_vgg16, tmp_path):
    """VGG16 in a Sequential, by the Keras that is installed: archive, weights, legacy."""
    import keras

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        layers = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, name="out")]
        model = keras.Sequential([keras.Input((32, 32, 3)), keras_vgg16, *layers])
    expected = {
        layer.name: dict(zip(("kernel", "bias"), map(np.asarray, layer.get_weights()), strict=True))
        for layer in keras_vgg16.layers
        if layer.get_weights()
    }
    model.save(tmp_path / "x.keras")
    model.save(tmp_path / "x.h5")
    model.save_weights(tmp_path / "x.weights.h5")
    for name in ("x.keras", "x.h5", "x.weights.h5"):
        weights = load_weights(tmp_path / name, cut="block5")
        assert_same(weights.params, expected)
        assert weights.notice == f"{name}: left out, not VGG16's: out"
