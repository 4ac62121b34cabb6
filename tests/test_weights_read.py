import numpy as np
import pytest
from weights_files import TINY, WRITERS, assert_same, keras_3, keras_legacy, legacy, random_params

from mnistjax.errors import WeightsError
from mnistjax.models.vgg16_table import TOP, table
from mnistjax.weights.read import read_hdf5

PARAMS = random_params()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.h5"


def refused(path, says, wanted=TINY):
    with pytest.raises(WeightsError, match=says) as error:
        read_hdf5(path, wanted)
    message = str(error.value)
    assert "\n" not in message and "Fix: " in message and str(path) in message
    return message


@pytest.mark.parametrize("layout", WRITERS)
def test_every_layout_is_told_apart_and_read(path, layout):
    params, ignored, found, *_ = read_hdf5(WRITERS[layout](path, PARAMS), TINY)
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
        params, ignored, *_ = read_hdf5(write(path, PARAMS | behind), TINY)
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
    assert "block5_conv3 is missing" in message and "Fix: pass `cut='block3'`" in message
