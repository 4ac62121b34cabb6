import gzip
import tracemalloc

import numpy as np
import pytest
from conftest import idx_bytes, tiny_arrays
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mnistjax.data.idx import FILES, load_idx, read_idx
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
        (b"<!DOCTYPE html><html>", "not 00000803"),
        (bytes([0, 0, 9, 3]) + idx_bytes(SMALL)[4:], "not 00000803"),
        (idx_bytes(SMALL[0, 0]), "not 00000803"),
        (header(5, 3, 2) + SMALL.tobytes(), "promises 30 bytes .* holds 24"),
        (idx_bytes(SMALL) + b"x", "promises 24 bytes .* holds more"),
        (header(2**32 - 1, 28, 28), "promises 3,367,254,359,280 bytes"),
    ],
    ids=["empty", "html", "type", "labels", "short", "long", "huge"],
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


def test_real_mnist_is_itself_and_nothing_else(mnist_dir):
    data = load_idx(mnist_dir)
    assert data.train.images.shape == (60_000, 28, 28, 1)
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test.labels[:4].tolist() == [7, 2, 1, 0]
    with pytest.raises(DataError, match="is MNIST itself"):
        load_idx(mnist_dir, name="fashion_mnist")
