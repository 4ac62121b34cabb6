"""Files that try to get at other files, at memory, or at the screen: all refused."""

from typing import Any

import h5py
import numpy as np
import pytest
from weights_files import TINY, keras_3, keras_legacy, legacy, random_params

from mnistjax.errors import WeightsError
from mnistjax.weights.read import read_hdf5

PARAMS = random_params()
SENTINEL = "SENTINEL-of-another-file"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.h5"


def refused(path, says):
    with pytest.raises(WeightsError, match=says) as error:
        read_hdf5(path, TINY)
    message = str(error.value)
    assert "\n" not in message and "Fix: " in message and str(path) in message
    assert SENTINEL not in message
    return message


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
