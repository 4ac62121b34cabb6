import gzip
import tracemalloc
from string import ascii_uppercase

import numpy as np
import pytest
from conftest import idx_bytes, tiny_arrays
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mnistjax.data.idx import FILES, load_idx, read_idx
from mnistjax.data.load import load_dataset
from mnistjax.errors import DataError

SMALL = np.arange(4 * 3 * 2, dtype=np.uint8).reshape(4, 3, 2)


def write(directory, data, name="file"):
    path = directory / name
    path.write_bytes(data)
    return path


@given(arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, max_side=6)), st.booleans())
def test_what_was_written_is_read(tmp_path_factory, array, zipped):
    directory = tmp_path_factory.mktemp("idx")
    data = idx_bytes(array)
    zip_ = gzip.compress if zipped else bytes
    path = write(directory, zip_(data), "file.gz" if zipped else "file")
    read, _ = read_idx(path, ndim=array.ndim)
    np.testing.assert_array_equal(read, array)


@given(st.data())
def test_no_damage_is_read_as_data(tmp_path_factory, data):
    """Whatever byte is cut or changed: an error of ours, or the array as it was."""
    whole = gzip.compress(idx_bytes(SMALL), mtime=0)
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        damaged = whole[:at]
    else:
        other = data.draw(st.integers(1, 255))
        damaged = whole[:at] + bytes([whole[at] ^ other]) + whole[at + 1 :]
    path = write(tmp_path_factory.mktemp("idx"), damaged, "file.gz")
    try:
        read, _ = read_idx(path, ndim=3)
    except DataError as error:
        assert "Fix:" in str(error)
    else:
        np.testing.assert_array_equal(read, SMALL)


def header(*shape):
    return bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "nothing"),
        (b"<!DOCTYPE html><html>", "3c21444f, which is not IDX"),
        (bytes([0, 0, 10, 3]) + idx_bytes(SMALL)[4:], "00000a03, which is not IDX"),
        (idx_bytes(SMALL[0, 0]), "IDX of 1 dimensions .2,., not of 3"),
        (header(0, 2**31, 2**31), "holds nothing"),
        (idx_bytes(SMALL)[:11], "ends within its IDX header"),
        (header(5, 3, 2) + SMALL.tobytes(), "promises 30 bytes .* holds 24"),
        (idx_bytes(SMALL) + b"x", "promises 24 bytes .* holds more"),
        (header(2**32 - 1, 28, 28), "promises 3,367,254,359,280 bytes"),
    ],
    ids=["empty", "html", "type", "labels", "nothing", "header", "short", "long", "huge"],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path, data, says):
    path = write(tmp_path, data)
    with pytest.raises(DataError, match=f"^{path}: .*{says}"):
        read_idx(path, ndim=3)


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    bomb = gzip.compress(header(10, 2, 2) + bytes(100_000_000), compresslevel=1)
    path = write(tmp_path, bomb, "bomb.gz")
    tracemalloc.start()
    with pytest.raises(DataError, match="holds more"):
        read_idx(path, ndim=3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_load_gives_arrays_in_file_order(tiny_idx_dir):
    data = load_idx(tiny_idx_dir, verify=False)
    arrays = tiny_arrays()
    np.testing.assert_array_equal(data.train.images[..., 0], arrays["train_images"])
    np.testing.assert_array_equal(data.test.labels, arrays["test_labels"])
    assert data.train.labels.dtype == np.int32


def test_a_missing_file_is_named(tiny_idx_dir):
    (tiny_idx_dir / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="no t10k-labels-idx1-ubyte "):
        load_idx(tiny_idx_dir, verify=False)


def test_the_other_usual_spelling_is_found(tiny_idx_dir):
    for name in FILES.values():
        plain = gzip.decompress((tiny_idx_dir / f"{name}.gz").read_bytes())
        (tiny_idx_dir / f"{name}.gz").unlink()
        write(tiny_idx_dir, plain, name.replace("-idx", ".idx"))
    assert len(load_idx(tiny_idx_dir, verify=False).train.labels) == 60


def test_contents_that_are_not_mnist_are_refused(tiny_idx_dir):
    with pytest.raises(DataError, match="SHA-256 .* not MNIST's.*verify=False"):
        load_idx(tiny_idx_dir)


@pytest.mark.parametrize("label", [10, 255])
def test_labels_out_of_range_are_refused(tiny_idx_dir, label):
    labels = tiny_arrays()["train_labels"]
    labels[3] = label
    write(tiny_idx_dir, gzip.compress(idx_bytes(labels)), "train-labels-idx1-ubyte.gz")
    with pytest.raises(DataError, match=f"from 0 to {label}, but there are 10 classes"):
        load_idx(tiny_idx_dir, verify=False)


def test_counts_that_disagree_are_refused(tiny_idx_dir):
    labels = tiny_arrays()["train_labels"][:-1]
    write(tiny_idx_dir, gzip.compress(idx_bytes(labels)), "train-labels-idx1-ubyte.gz")
    with pytest.raises(DataError, match="60 images but 59 labels"):
        load_idx(tiny_idx_dir, verify=False)


CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def typed_idx(array, code):
    head = bytes([0, 0, CODES[code], array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return head + array.astype(f">{code}").tobytes()


@pytest.mark.parametrize("code", CODES)
def test_every_element_type_is_read(tmp_path, code):
    array = np.arange(24).reshape(4, 3, 2)
    read, _ = read_idx(write(tmp_path, typed_idx(array, code)), ndim=3)
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.dtype(code)


def put(directory, role, data):
    """`data` as the file of that role, under the name of the gzipped one."""
    write(directory, data, f"{FILES[role]}.gz")


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("role", ["train_labels", "test_labels", "train_images"])
def test_whole_numbers_of_any_type_are_taken(tiny_idx_dir, role, code):
    array = tiny_arrays()[role]
    if code == "i1":
        array = array // 2  # labels of 0..4, pixels of 0..127
    put(tiny_idx_dir, role, typed_idx(array, code))
    data = load_idx(tiny_idx_dir, verify=False)
    split = data.train if role.startswith("train") else data.test
    read = split.images[..., 0] if role.endswith("images") else split.labels
    np.testing.assert_array_equal(read, array)
    assert read.dtype == (np.uint8 if role.endswith("images") else np.int32)


@pytest.mark.parametrize(
    ("role", "change", "code", "says"),
    [
        ("train_images", lambda a: a / 255, "f4", "float32 values from 0 to 1, whole ones"),
        ("train_images", lambda a: a + 1, "i2", "int16 values from 1 to 256, whole ones"),
        ("train_labels", lambda a: a + 0.5, "f8", "whole numbers from 0"),
        ("train_labels", lambda a: a - 5, "i1", "whole numbers from 0"),
        ("train_labels", lambda a: a * 1e9, "f8", "whole numbers from 0 to 2147483647"),
        ("train_labels", lambda a: np.eye(10)[a], "u1", "one whole number for each image"),
        ("test_images", lambda a: a[:, 1:], "u1", "27x28x1, those of the training split 28x28x1"),
    ],
)
def test_valid_idx_is_refused_for_its_true_reason(tiny_idx_dir, role, change, code, says):
    put(tiny_idx_dir, role, typed_idx(change(tiny_arrays()[role].astype(np.int64)), code))
    with pytest.raises(DataError, match=says) as refused:
        load_idx(tiny_idx_dir, verify=False)
    assert "not IDX" not in str(refused.value) and "again" not in str(refused.value)


@pytest.mark.parametrize("standard", [True, False])
def test_qmnist_has_its_class_in_the_first_column(tmp_path, tiny_idx_dir, standard):
    expected = tiny_arrays()
    for part, usual in (("train", "train"), ("test", "t10k")):
        labels = np.arange(8) * 1000 + expected[f"{part}_labels"][:, None].astype(np.int32)
        images = gzip.decompress((tiny_idx_dir / f"{usual}-images-idx3-ubyte.gz").read_bytes())
        if standard:
            put(tiny_idx_dir, f"{part}_labels", typed_idx(labels, "i4"))
        else:
            write(tmp_path, typed_idx(labels, "i4"), f"qmnist-{part}-labels-idx2-int")
            write(tmp_path, images, f"qmnist-{part}-images-idx3-ubyte")
    directory = tiny_idx_dir if standard else tmp_path / "qmnist-train-labels-idx2-int"
    data = load_dataset("auto", directory, verify=False)
    assert data.name == ("mnist" if standard else "qmnist")
    np.testing.assert_array_equal(data.train.labels, expected["train_labels"])
    np.testing.assert_array_equal(data.test.images[..., 0], expected["test_images"])


def test_gzip_is_told_by_content(tmp_path):
    for number, (role, array) in enumerate(tiny_arrays().items()):
        data = idx_bytes(array)
        odd = number % 2
        write(tmp_path, data if odd else gzip.compress(data), FILES[role] + (".gz" if odd else ""))
    assert len(load_idx(tmp_path, verify=False).train.labels) == 60


def test_any_number_of_classes_unless_a_name_says_ten(tiny_idx_dir):
    labels = tiny_arrays()["train_labels"].astype(np.int32)
    labels[labels == 7] = 70_000
    put(tiny_idx_dir, "train_labels", typed_idx(labels, "i4"))
    test_labels = tiny_arrays()["test_labels"].astype(np.int32)
    test_labels[test_labels == 7] = 70_000
    put(tiny_idx_dir, "test_labels", typed_idx(test_labels, "i4"))
    data = load_dataset("auto", tiny_idx_dir, verify=False)
    assert data.class_names == (*"012345689", "70000")
    assert [data.class_names[n] for n in data.train.labels] == [str(n) for n in labels]
    with pytest.raises(DataError, match="from 0 to 70000, but there are 10"):
        load_dataset("mnist", tiny_idx_dir, verify=False)


def emnist(directory, split, first=0, classes=10):
    labels = {}
    for part, count in (("train", 6 * classes), ("test", 2 * classes)):
        images = np.random.default_rng(0).integers(0, 256, (count, 28, 28)).astype(np.uint8)
        labels[part] = (np.arange(count) % classes + first).astype(np.uint8)
        name = f"emnist-{split}-{part}"
        write(directory, gzip.compress(idx_bytes(images)), f"{name}-images-idx3-ubyte.gz")
        write(directory, idx_bytes(labels[part]), f"{name}-labels-idx1-ubyte")
    return images, labels["test"]


@pytest.mark.parametrize(
    ("split", "first", "names"),
    [
        ("digits", 0, "0123456789"),
        ("mnist", 0, "0123456789"),
        ("letters", 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        ("balanced", 0, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"),
        ("byclass", 0, f"0123456789{ascii_uppercase}{ascii_uppercase.lower()}"),
    ],
)
def test_emnist_stands_upright_and_has_its_names(tmp_path, split, first, names):
    images, labels = emnist(tmp_path, split, first, len(names))
    data = load_dataset("auto", tmp_path)
    assert (data.name, data.class_names) == (f"emnist-{split}", tuple(names))
    np.testing.assert_array_equal(data.test.images[..., 0], images.transpose(0, 2, 1))
    np.testing.assert_array_equal(data.test.labels, labels - first)


def test_emnists_mapping_names_the_classes(tmp_path):
    emnist(tmp_path, "mine", 5, 3)
    write(tmp_path, b"5 65 97\n6 66 98\n7 955\n", "emnist-mine-mapping.txt")
    assert load_dataset("auto", tmp_path).class_names == ("A", "B", "\N{GREEK SMALL LETTER LAMDA}")
    write(tmp_path, b"<html>", "emnist-mine-mapping.txt")
    with pytest.raises(DataError, match="mapping.txt: is no list"):
        load_dataset("auto", tmp_path)


def test_one_of_several_sets_is_chosen_by_a_file(tmp_path):
    emnist(tmp_path, "digits")
    emnist(tmp_path, "letters", 1, 26)
    with pytest.raises(DataError, match="2 data sets in it, .*emnist-digits-test-images"):
        load_dataset("auto", tmp_path)
    one = tmp_path / "emnist-letters-test-labels-idx1-ubyte"
    assert load_dataset("auto", one).name == "emnist-letters"


def test_a_missing_file_of_another_set_is_named(tmp_path):
    emnist(tmp_path, "digits")
    (tmp_path / "emnist-digits-test-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="no emnist-digits-test-labels-idx1-ubyte "):
        load_dataset("auto", tmp_path)


def test_images_too_small_for_the_network_are_named(tiny_idx_dir, capsys):
    from experiments.scratch import ScratchConfig, main
    from mnistjax import cli

    for part in ("train", "test"):
        put(tiny_idx_dir, f"{part}_images", idx_bytes(tiny_arrays()[f"{part}_images"][:, :8, :8]))
    flags = "--data-dir", str(tiny_idx_dir), "--allow-unverified-data"
    more = "--validation", "0", "--batch-size", "8", "--output", str(tiny_idx_dir / "run")
    assert cli.run(ScratchConfig, main, [*flags, *more]) == 3
    assert "error: images of 8x8: the two poolings" in capsys.readouterr().err


def test_real_mnist_is_itself_and_nothing_else(mnist_dir):
    data = load_idx(mnist_dir)
    assert data.train.images.shape == (60_000, 28, 28, 1)
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test.labels[:4].tolist() == [7, 2, 1, 0]
    with pytest.raises(DataError, match="is MNIST itself"):
        load_idx(mnist_dir, name="fashion_mnist")
