from typing import Any

import h5py
import numpy as np
import pytest
from weights_files import TINY, WRITERS, assert_same, keras_3, keras_legacy, legacy, random_params

from mnistjax.errors import WeightsError
from mnistjax.weights.architecture import TOP, table
from mnistjax.weights.read import read_hdf5

PARAMS = random_params()
SENTINEL = "SENTINEL-of-another-file"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.h5"


def refused(path, says, wanted=TINY):
    with pytest.raises(WeightsError, match=says) as error:
        read_hdf5(path, wanted)
    message = str(error.value)
    assert "\n" not in message and "Fix: " in message and str(path) in message
    assert SENTINEL not in message
    return message


@pytest.mark.parametrize("layout", WRITERS)
def test_every_layout_is_told_apart_and_read(path, layout):
    params, ignored, found = read_hdf5(WRITERS[layout](path, PARAMS), TINY)
    assert_same(params, PARAMS)
    assert (ignored, found) == ((), layout)


@pytest.mark.parametrize(
    "options",
    [{"prefix": "model_weights"}, {"suffix": ":0"}, {"chunked_names": True}],
    ids=["whole model", "Keras 2", "names in several attributes"],
)
def test_variants_of_the_keras_legacy_layout(path, options):
    assert_same(read_hdf5(keras_legacy(path, PARAMS, **options), TINY).params, PARAMS)


def test_layers_go_by_their_name_not_by_the_order_of_groups(path):
    """conv2d_10 sorts before conv2d_2, and the shapes would fit."""
    many = {f"block5_conv{n}": {"kernel": (3, 3, 2, 2), "bias": (2,)} for n in range(1, 14)}
    params = random_params(many)
    assert_same(read_hdf5(keras_3(path, params), many).params, params)


@pytest.mark.parametrize("dtype", ["<f2", ">f2", ">f4", "<f8", ">f8"])
def test_other_floats_become_float32(path, dtype):
    halves = {
        layer: {role: array.astype("f2") for role, array in of.items()}
        for layer, of in PARAMS.items()
    }
    stored = {layer: {r: a.astype(dtype) for r, a in of.items()} for layer, of in halves.items()}
    assert_same(read_hdf5(legacy(path, stored), TINY).params, halves)


def test_compressed_arrays_of_the_right_size_are_read(path):
    legacy(path, PARAMS, compression="gzip", shuffle=True, fletcher32=True)
    assert_same(read_hdf5(path, TINY).params, PARAMS)


def test_layers_behind_the_cut_and_the_top_are_named_and_left_aside(path):
    behind = {name: {"kernel": np.zeros((2, 2), "f4")} for name in ("block4_conv1", *TOP)}
    for write in WRITERS.values():
        params, ignored, _ = read_hdf5(write(path, PARAMS | behind), TINY)
        assert_same(params, PARAMS)
        assert sorted(ignored) == sorted(behind)


def test_one_error_lists_all_that_is_wrong(path):
    wrong = {
        "block1_conv1": {"kernel": PARAMS["block1_conv1"]["kernel"].transpose(3, 2, 0, 1)},
        "block1_conv2": PARAMS["block1_conv2"] | {"gamma": np.ones(4, "f4")},
        "block3_conv4": {"kernel": np.ones((3, 3, 2, 2), "f4")},
    }
    message = refused(keras_legacy(path, wrong), "is missing")
    for says in (
        "block2_conv1 is missing",
        "block1_conv1/bias is missing",
        "block1_conv1/kernel is (4, 3, 3, 3), not (3, 3, 3, 4)",
        "block1_conv2/block1_conv2/gamma is not of VGG16",
        "block3_conv4/kernel is not of VGG16",
    ):
        assert says in message


def test_values_that_are_no_numbers_are_listed(path):
    params = random_params() | {"block1_conv2": {"kernel": np.full((3, 3, 4, 4), 1e39, "f8")}}
    params["block1_conv2"]["bias"] = np.array([0, 1, np.nan, 2], "f4")
    message = refused(legacy(path, params), "not finite")
    assert "block1_conv2/kernel" in message and "block1_conv2/bias" in message
    assert "block1_conv1" not in message.partition(": ")[2]


def test_what_a_file_covers_is_what_a_cut_needs(path):
    legacy(path, random_params(table("block3")))
    assert len(read_hdf5(path, table("block3")).params) == 7
    assert len(read_hdf5(path).params) == 7
    message = refused(path, "block4_conv1 is missing", table("block5"))
    assert "block5_conv3 is missing" in message and "Fix: pass --cut block3" in message


def edit(path, change):
    legacy(path, PARAMS)
    with h5py.File(path, "r+") as file:
        change(file, "block1_conv2/block1_conv2_b_1:0")
    return path


def foreign(tmp_path):
    keras_legacy(tmp_path / "foreign.h5", {"block1_conv2": PARAMS["block1_conv2"]})
    with h5py.File(tmp_path / "foreign.h5", "r+") as file:
        file["b"] = np.frombuffer((SENTINEL * 2).encode()[:16], "f4")


def replaced_by(link):
    def change(file, name):
        del file[name]
        file[name] = link

    return change


def middle(link):
    def change(file, name):
        del file["block1_conv2"]
        file["block1_conv2"] = link

    return change


def external_storage(file, name):
    del file[name]
    file.create_dataset(name, (4,), "f4", external=[("foreign.txt", 0, 16)])


def virtual(file, name):
    del file[name]
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("foreign.h5", "b", (4,))
    file.create_virtual_dataset(name, layout)


@pytest.mark.parametrize(
    "change",
    [
        replaced_by(h5py.SoftLink("/block1_conv1/block1_conv1_b_1:0")),
        replaced_by(h5py.ExternalLink("foreign.h5", "b")),
        middle(h5py.SoftLink("/block1_conv1")),
        middle(h5py.ExternalLink("foreign.h5", "block1_conv2")),
        external_storage,
        virtual,
    ],
    ids=["soft", "external", "soft in the middle", "external in the middle", "storage", "virtual"],
)
def test_nothing_outside_of_the_file_is_read(path, tmp_path, change):
    foreign(tmp_path)
    (tmp_path / "foreign.txt").write_text(SENTINEL * 2)
    refused(edit(path, change), "unsupported HDF5 feature")


@pytest.mark.parametrize("link", [h5py.ExternalLink("foreign.h5", "/"), h5py.SoftLink("/nowhere")])
@pytest.mark.parametrize("place", ["model_weights", "layers", "layers/conv2d", "layers/a/vars"])
def test_no_link_is_followed_to_find_the_layout(path, tmp_path, place, link):
    (tmp_path / "foreign.h5").write_text(SENTINEL)  # opening it would say so
    with h5py.File(path, "w") as file:
        file[place] = link
    refused(path, "unsupported HDF5 feature: a soft or external link")


def bomb(shape=(4,), dtype: Any = "f4", **options):
    def change(file, name):
        del file[name]
        file.create_dataset(name, shape, dtype, **options)

    return change


def unpacks_to_much(file, name):
    del file[name]
    chunk = 2**24
    file.create_dataset(name, (4,), "f4", chunks=(chunk,), maxshape=(None,), compression="gzip")
    file[name][:] = 1


def half_written(file, name):
    del file[name]
    file.create_dataset(name, (4,), "f4", chunks=(2,))[:2] = 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (bomb((2**40,), chunks=(2**20,)), r"is \(1099511627776,\), not \(4,\)"),
        (unpacks_to_much, "stores"),
        (bomb(), "stores 0 bytes for an array of 16"),
        (half_written, "stores 8 bytes for an array of 16"),
        (bomb(dtype=h5py.string_dtype()), "type object"),
        (bomb(dtype=h5py.vlen_dtype(np.float32)), "type object"),
        (bomb(dtype=h5py.ref_dtype), "type object"),
        (bomb(dtype=[("a", "f4")]), "type .*'a'"),
        (bomb(dtype="i4"), "type int32"),
        (bomb(dtype="c8"), "type complex64"),
        (bomb(dtype=np.longdouble), "type float"),
        (
            lambda file, name: file.move(name, "x") or file.create_group(name),
            "a group where an array",
        ),
    ],
    ids=[
        *("shape bomb", "chunk bomb", "never written", "half written", "string", "vlen"),
        *("reference", "compound", "integer", "complex", "long double", "group"),
    ],
)
def test_bombs_and_odd_types_are_refused_unread(path, change, says):
    refused(edit(path, change), says)


def test_tensors_that_overlap_are_refused(path):
    """One hard link twice: as good as an address with a flipped bit."""

    def change(file, name):
        del file[name]
        file[name] = file["block1_conv1/block1_conv1_b_1:0"]

    refused(edit(path, change), "overlap")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda file, name: file.attrs.clear(), "in none of Keras's layouts"),
        (lambda file, name: file.attrs.create("layer_names", np.arange(3)), "hold names"),
        (lambda file, name: file.attrs.create("layer_names", np.zeros(20_000, "S1")), "hold names"),
        (lambda file, name: file.attrs.create("layer_names", "a\x1b[2Jb"), "hold names"),
        (lambda file, name: file.attrs.create("layer_names", ["../x"]), "not a path inside"),
        (lambda file, name: file.attrs.create("layer_names", ["nowhere"]), "not there"),
    ],
    ids=["none", "numbers", "too many", "control characters", "path", "dangling"],
)
def test_names_are_not_believed(path, change, says):
    assert "\x1b" not in refused(edit(path, change), says)


def test_two_layers_of_one_name_are_refused(path):
    keras_3(path, PARAMS)
    with h5py.File(path, "r+") as file:
        file["layers/conv2d_1/vars"].attrs["name"] = "block1_conv1"
    refused(path, "a second block1_conv1")


def test_a_file_cut_short_is_refused(path):
    data = legacy(path, PARAMS).read_bytes()
    for length in range(8, len(data), 97):
        path.write_bytes(data[:length])
        refused(path, "damaged or cut short.*bytes, the first: b'")
