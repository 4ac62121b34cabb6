"""What other people's data sets come in: read by content, or named for what they are."""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from typing import Any

import numpy as np
import pytest
import scipy.io
from conftest import idx_bytes, tiny_arrays
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mnistjax.data import mat
from mnistjax.data.containers import CONTAINERS
from mnistjax.data.idx import FILES
from mnistjax.data.load import load_dataset
from mnistjax.data.mat import read_mat
from mnistjax.data.packed import unpacked
from mnistjax.errors import DataError

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (40, 28, 28)).astype(np.uint8)
COLOUR = RANDOM.integers(0, 256, (40, 32, 32, 3)).astype(np.uint8)
LABELS = (np.arange(40) % 4).astype(np.uint8)
TEST = slice(0, 20)


def npz(directory, name="digits.npz", **arrays):
    usual = {"x_train": GREY, "y_train": LABELS, "x_test": GREY[TEST], "y_test": LABELS[TEST]}
    np.savez_compressed(directory / name, **(arrays or usual))
    return directory / name


def csv(path, images, labels=None, header=True, first=0):
    names = [f"pixel{n}" for n in range(first, images[0].size + first)]
    rows = [",".join(names if labels is None else ["label", *names])] if header else []
    for at, image in enumerate(images):
        cells = image.ravel().tolist()
        rows.append(",".join(map(str, cells if labels is None else [labels[at], *cells])))
    path.write_text("\n".join(rows) + "\n")
    return path


def cifar10(directory, names=True):
    for n in range(1, 6):
        rows = slice(8 * n - 8, 8 * n)
        records = cifar_records(COLOUR[rows], LABELS[rows][:, None])
        (directory / f"data_batch_{n}.bin").write_bytes(records)
    (directory / "test_batch.bin").write_bytes(cifar_records(COLOUR[TEST], LABELS[TEST][:, None]))
    if names:
        (directory / "batches.meta.txt").write_text("".join(f"name {n}\n" for n in range(10)))
    return directory


def cifar_records(images, labels):
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([labels, planes], axis=1).astype(np.uint8).tobytes()


def svhn(directory, compressed=True):
    for part, rows in (("train", slice(None)), ("test", TEST)):
        labels = np.where(LABELS[rows] == 0, 10, LABELS[rows])[:, None]
        arrays = {"X": COLOUR[rows].transpose(1, 2, 3, 0), "y": labels.astype(np.uint8)}
        path = directory / f"{part}_32x32.mat"
        scipy.io.savemat(path, arrays, do_compression=compressed)
    return directory


def is_right(data, images, labels=LABELS):
    """`data` holds `images`, the first 20 of them for the test, with these labels."""
    images = images if images.ndim == 4 else images[..., None]
    np.testing.assert_array_equal(data.train.images, images)
    np.testing.assert_array_equal(data.test.images, images[TEST])
    np.testing.assert_array_equal(data.train.labels, labels)
    np.testing.assert_array_equal(data.test.labels, labels[TEST])
    assert data.train.images.dtype == np.uint8 and data.train.labels.dtype == np.int32
    return data


# .npz


@pytest.mark.parametrize("whole", [False, True], ids=["file", "directory"])
def test_keras_npz(tmp_path, whole):
    path = npz(tmp_path)
    data = is_right(load_dataset("auto", tmp_path if whole else path), GREY)
    assert (data.name, data.class_names, data.notice) == ("digits", ("0", "1", "2", "3"), "")


def test_npz_of_other_spellings_shapes_and_types(tmp_path):
    labels = LABELS[:, None].astype(np.int64)
    spelt = {
        "train_images": np.asfortranarray(COLOUR),
        "train_labels": labels + 3,
        "test_images": COLOUR[TEST].astype(np.float64),
        "test_labels": labels[TEST] + 3,
        "val_images": COLOUR,
    }
    data = load_dataset("auto", npz(tmp_path, **spelt))
    assert is_right(data, COLOUR).class_names == ("3", "4", "5", "6")
    assert data.notice == "digits.npz: left out val_images"


def test_the_validation_part_of_a_npz_is_the_validation_split(tmp_path):
    arrays: Any = {
        f"{part}_{what}": values[rows]
        for part, rows in (("train", slice(None)), ("val", TEST), ("test", TEST))
        for what, values in (("images", GREY), ("labels", LABELS))
    }
    data = load_dataset("auto", npz(tmp_path, **arrays))
    assert data.validation is not None and data.notice == ""
    np.testing.assert_array_equal(data.validation.images[..., 0], GREY[TEST])
    np.testing.assert_array_equal(data.validation.labels, data.test.labels)


def test_npz_with_an_array_in_each_file(tmp_path):
    """Kuzushiji-49's four files, each of one array that nobody named."""
    for part, rows in (("train", slice(None)), ("test", TEST)):
        np.savez_compressed(tmp_path / f"k49-{part}-imgs.npz", GREY[rows])
        np.savez_compressed(tmp_path / f"k49-{part}-labels.npz", LABELS[rows])
    (tmp_path / "k49_classmap.csv").write_text("index,codepoint,char\n0,U+3042,a\n")
    for path in (tmp_path, tmp_path / "k49-train-imgs.npz"):
        data = load_dataset("auto", path)
        is_right(data, GREY)
        assert data.name == "k49" and not data.notice
    (tmp_path / "k49-test-labels.npz").unlink()
    with pytest.raises(DataError, match="no images with their labels in it, but k49-test-imgs"):
        load_dataset("auto", tmp_path)


def test_npz_by_content_under_another_name(tmp_path):
    npz(tmp_path).rename(tmp_path / "blob")
    is_right(load_dataset("auto", tmp_path / "blob"), GREY)


def test_npz_without_a_test_part_holds_out_a_fifth_and_says_so(tmp_path):
    data = load_dataset("auto", npz(tmp_path, x=GREY, y=LABELS))
    assert np.bincount(data.test.labels).tolist() == [2, 2, 2, 2] and len(data.train.labels) == 32
    assert data.notice == "a stratified fifth is the test split"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x_train": np.array([None] * 40)}, "Python objects"),
        ({"x_train": GREY / 255}, "float64 values from 0 to 1, whole ones from 0 to 255"),
        ({"x_train": GREY.astype(np.int16) - 1}, "int16 values from -1 to 254"),
        ({"x_train": COLOUR.transpose(0, 3, 1, 2)}, "shape .40, 3, 32, 32."),
        ({"x_train": GREY.astype("c8")}, "complex64"),
        ({"x_train": np.full_like(GREY, np.nan, np.float32)}, "from nan to nan"),
        ({"y_train": np.eye(4)[LABELS]}, "one whole number for each image"),
        ({"y_train": LABELS - 0.5}, "whole numbers from 0"),
        ({"y_train": LABELS[:-1]}, "40 images but 39 labels"),
        ({"y_test": LABELS[TEST] + 1}, "label 4 is none of the 4 classes"),
        ({"y_train": np.where(np.arange(40) == 3, 200, LABELS)}, "label 200 occurs 1 times"),
        ({"x_test": COLOUR[TEST]}, "32x32x3, those of the training split 28x28x1"),
        ({"y_test": None}, "no images with their labels .* x_train, y_train, x_test"),
        ({"x_train": None, "y_train": None}, "which are the training images of x_test, y_test"),
    ],
)
def test_npz_that_will_not_do_is_refused_for_its_reason(tmp_path, change, says):
    usual = {"x_train": GREY, "y_train": LABELS, "x_test": GREY[TEST], "y_test": LABELS[TEST]}
    arrays = {name: array for name, array in (usual | change).items() if array is not None}
    with pytest.raises(DataError, match=says):
        load_dataset("auto", npz(tmp_path, **arrays))


def test_npz_that_promises_more_than_it_holds(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (2**29,)}
    )
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x_train.npy", header.getvalue() + b"abc")
    with pytest.raises(DataError, match="promises 536,870,912 bytes .* holds 3"):
        load_dataset("auto", tmp_path)


def test_the_digits_in_mnist_npz_are_mnist_if_they_are(tmp_path, mnist_dir):
    real = load_dataset("mnist", mnist_dir)
    (x_train, y_train), (x_test, y_test) = real.train, real.test
    arrays = {"x_train": x_train[..., 0], "y_train": y_train.astype(np.uint8)}
    path = npz(tmp_path, "mnist.npz", **arrays, x_test=x_test[..., 0], y_test=y_test)
    data = load_dataset("mnist", path)
    assert (data.name, data.sha256) == ("mnist", real.sha256)
    with pytest.raises(DataError, match="holds another set"):
        load_dataset("kmnist", path)


def test_brackets_in_a_name_are_no_markup(tmp_path, capsys, monkeypatch):
    from experiments import common
    from experiments.scratch import ScratchConfig
    from mnistjax.runs.plan import Plan, Stage

    path = npz(tmp_path, "a[bold].npz", x=GREY, y=LABELS, more=LABELS)
    monkeypatch.setattr(common, "choose_platform", lambda *_, **__: None)
    config = ScratchConfig(data_dir=path, batch_size=8)
    data = common.load_data(config, image_size=28)
    stages = [Stage.by_adam(1, 0.1)]
    plan = Plan(apply_fn=lambda params, x: x, params={}, stages=stages, train=data.train)
    common.banner(config, tmp_path / "run", plan, data)
    shown = capsys.readouterr().out
    assert "a[bold].npz: left out more" in shown and "(a[bold].npz)" in shown


def test_a_name_is_strict_about_containers(tmp_path):
    with pytest.raises(DataError, match="`name='mnist'`.*another set, with 4 classes"):
        load_dataset("mnist", npz(tmp_path))


# .csv


def test_kaggle_digits(tmp_path):
    csv(tmp_path / "train.csv", GREY, LABELS)
    csv(tmp_path / "test.csv", GREY)
    (tmp_path / "sample_submission.csv").write_text("ImageId,Label\n1,0\n2,0\n")
    data = load_dataset("auto", tmp_path)
    both = np.concatenate([data.train.images, data.test.images])[..., 0]
    assert sorted(map(bytes, both)) == sorted(map(bytes, GREY))
    assert np.bincount(data.test.labels).tolist() == [2, 2, 2, 2]
    by_pixels = {bytes(image): label for image, label in zip(GREY, LABELS, strict=True)}
    assert all(by_pixels[bytes(image)] == label for image, label in zip(*data.test, strict=True))
    expected = "left out test.csv (no labels); a stratified fifth is the test split"
    assert (data.name, data.notice, data.origin) == ("csv", expected, "train.csv")


@pytest.mark.parametrize("count", [511, 512, 513, 1024])
def test_csv_of_any_number_of_rows_with_empty_lines_at_its_end(tmp_path, count):
    images = RANDOM.integers(0, 256, (count, 8, 8)).astype(np.uint8)
    path = csv(tmp_path / "digits.csv", images.astype(float), np.arange(count) % 3)
    path.write_text(path.read_text() + "\n\n")
    data = load_dataset("auto", path)
    both = np.concatenate([data.train.images, data.test.images])[..., 0]
    assert sorted(map(bytes, both)) == sorted(map(bytes, images))


@pytest.mark.parametrize("header", [True, False])
def test_csv_for_training_and_test(tmp_path, header):
    csv(tmp_path / "fashion-mnist_train.csv", GREY, LABELS, header, first=1)
    csv(tmp_path / "fashion-mnist_test.csv", GREY[TEST], LABELS[TEST], header, first=1)
    data = load_dataset("auto", tmp_path / "fashion-mnist_train.csv")
    assert is_right(data, GREY).name == "fashion-mnist"


def test_csv_of_emnist_is_turned_upright(tmp_path):
    sideways = GREY.transpose(0, 2, 1)
    csv(tmp_path / "emnist-x-train.csv", sideways, LABELS, header=False)
    csv(tmp_path / "emnist-x-test.csv", sideways[TEST], LABELS[TEST], header=False)
    is_right(load_dataset("auto", tmp_path), GREY)


def test_csv_zipped_quoted_with_bom_and_label_last(tmp_path):
    names = [f'"p{n}"' for n in range(784)]
    rows = [",".join([*names, '"Label"'])]
    rows += [
        ",".join([*map(str, image.ravel().tolist()), f'"{label}"'])
        for image, label in zip(GREY, LABELS, strict=True)
    ]
    text = "\ufeff" + "\r\n".join(rows) + "\r\n\r\n"
    (tmp_path / "x-train.csv").write_bytes(gzip.compress(text.encode()))
    csv(tmp_path / "x-test.csv", GREY[TEST], LABELS[TEST])
    is_right(load_dataset("auto", tmp_path), GREY)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace("\n3,", "\n3,0,", 1), "number of columns changed"),
        (
            lambda text: text.replace("\n3,", "\n3,x", 1),
            "lines 2 to 41: could not convert",
        ),
        (lambda text: text.replace("\n3,", "\n3,9", 1), "whole ones from 0 to 255"),
        (lambda text: text.replace("\n3,", "\n-3,", 1), "whole numbers from 0 to"),
        (lambda text: text.replace("\n3,", "\n3,0.", 1), "lines 2 to 41: not all values are whole"),
        (lambda text: text + "\n" * 1100, "lines 514 to 1,025: only empty lines"),
        (lambda text: text.replace("\n3,", "\n7,", 1), "label 7 occurs 1 times"),
        (lambda text: text.splitlines()[0] + "\n", "no rows below its header"),
    ],
)
def test_csv_that_will_not_do_is_refused_with_its_lines(tmp_path, change, says):
    images = GREY.copy()
    images[:, 0, 0] = 255
    path = csv(tmp_path / "train.csv", images, LABELS)
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=says):
        load_dataset("auto", path)


def test_csv_of_no_square_is_refused(tmp_path):
    with pytest.raises(DataError, match="784 pixels|780 pixels in a row are no square"):
        load_dataset("auto", csv(tmp_path / "a.csv", GREY.reshape(40, -1)[:, :780], LABELS))


# CIFAR


@pytest.mark.parametrize("names", [True, False])
def test_cifar10_binary(tmp_path, names):
    outer = tmp_path / "cifar-10-batches-bin"
    outer.mkdir()
    data = is_right(load_dataset("auto", cifar10(outer, names).parent), COLOUR)
    assert (data.name, len(data.class_names)) == ("cifar10", 10)
    assert data.class_names[3] == ("name 3" if names else "cat")


def test_cifar10_of_fewer_batches_says_so(tmp_path):
    (cifar10(tmp_path) / "data_batch_2.bin").unlink()
    assert (
        load_dataset("auto", tmp_path).notice == "only 4 of CIFAR-10's 5 training batches are there"
    )


def test_cifar100_binary_has_the_fine_labels(tmp_path):
    both = np.stack([LABELS % 2, LABELS], axis=1)
    (tmp_path / "train.bin").write_bytes(cifar_records(COLOUR, both))
    (tmp_path / "test.bin").write_bytes(cifar_records(COLOUR[TEST], both[TEST]))
    (tmp_path / "fine_label_names.txt").write_text("".join(f"fine {n}\n" for n in range(100)))
    data = is_right(load_dataset("auto", tmp_path / "test.bin"), COLOUR)
    assert (data.name, data.class_names[99]) == ("cifar100", "fine 99")


@pytest.mark.parametrize(
    ("name", "contents", "says"),
    [
        ("data_batch_3.bin", b"x" * 3072, "no whole number of records of 3,073"),
        ("data_batch_3.bin", b"", "0 bytes are no whole"),
        ("data_batch_3.bin", b"\x0a" + bytes(3072), "label 10 is none of the 10"),
        ("batches.meta.txt", b"a\nb\n", "2 names, not 10"),
    ],
)
def test_cifar_that_will_not_do_is_refused(tmp_path, name, contents, says):
    (cifar10(tmp_path) / name).write_bytes(contents)
    with pytest.raises(DataError, match=says):
        load_dataset("auto", tmp_path)


# .mat


@pytest.mark.parametrize("compressed", [True, False])
def test_svhn(tmp_path, compressed):
    svhn(tmp_path, compressed)
    scipy.io.savemat(tmp_path / "extra_32x32.mat", {"X": COLOUR.transpose(1, 2, 3, 0), "y": LABELS})
    data = is_right(load_dataset("auto", tmp_path), COLOUR)
    assert (data.name, data.class_names) == ("svhn", tuple("0123456789"))
    assert data.notice == "left out extra_32x32.mat"


@given(
    st.sampled_from(["b", "B", "h", "H", "i", "I", "f", "d", "q"]), st.booleans(), st.integers(1, 9)
)
def test_mat_is_read_as_scipy_reads_it(tmp_path_factory, code, compressed, size):
    path = tmp_path_factory.mktemp("mat") / "x.mat"
    wanted = np.arange(size * 6).reshape(size, 3, 2).astype(code)
    arrays = {"other": "text", "X": wanted, "s": {"a": 1}, "y": np.array([[7.0]])}
    scipy.io.savemat(path, arrays, do_compression=compressed)
    read, expected = read_mat(path, ("X", "y")), scipy.io.loadmat(path)
    for name in ("X", "y"):
        np.testing.assert_array_equal(read[name], expected[name])
        assert read[name].shape == expected[name].shape


def test_mat_of_big_endian_is_read(tmp_path):
    values = np.arange(6, dtype=">i2")

    def element(kind, body):
        return struct.pack(">II", kind, len(body)) + body + bytes(-len(body) % 8)

    matrix = element(6, struct.pack(">II", 10, 0)) + element(5, struct.pack(">2i", 2, 3))
    matrix += struct.pack(">HH4s", 1, 1, b"X") + element(3, values.tobytes())
    (tmp_path / "x.mat").write_bytes(b" " * 124 + b"\x01\x00MI" + element(14, matrix))
    assert read_mat(tmp_path / "x.mat", ("X",))["X"].tolist() == [[0, 2, 4], [1, 3, 5]]


def test_mat_without_svhns_arrays_says_what_there_is(tmp_path):
    scipy.io.savemat(tmp_path / "train.mat", {"dataset": {"a": 1}, "z": 1.0})
    with pytest.raises(DataError, match="no array of numbers X and y in it, but dataset, z"):
        load_dataset("auto", tmp_path)


def test_a_mat_bomb_is_not_unpacked(tmp_path):
    arrays = {"X": np.zeros((32, 32, 3, 12_000), np.uint8), "y": LABELS}
    scipy.io.savemat(tmp_path / "train_32x32.mat", arrays, do_compression=True)
    with pytest.raises(DataError, match="are no pictures"):
        load_dataset("auto", tmp_path)


def test_nothing_is_reserved_for_what_a_tag_says(tmp_path):
    path = svhn(tmp_path, compressed=False) / "train_32x32.mat"
    whole = bytearray(path.read_bytes())
    whole[mat.HEADER + 4 : mat.HEADER + 8] = struct.pack("<I", 2**31)
    path.write_bytes(whole)
    with pytest.raises(DataError, match="an element of 2,147,483,648 bytes, of which"):
        load_dataset("auto", tmp_path)


# archives


def pack(path, directory):
    """A zip or tar archive of `directory`, with what macOS adds."""
    (directory / "._x.csv").write_text("label,pixel0\n")
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(directory.rglob("*")):
                archive.write(file, f"./outer/{file.relative_to(directory)}")
    else:
        with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
            archive.add(directory, "./outer")
    return path


@pytest.mark.parametrize("name", ["set.zip", "set.tar", "set.tar.gz", "set.tgz"])
@pytest.mark.parametrize("make", [svhn, cifar10, npz])
@pytest.mark.parametrize("whole", [False, True], ids=["file", "directory"])
def test_an_archive_of_any_of_them(tmp_path, make, whole, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    make(tmp_path / "in")
    path = pack(tmp_path / "out" / name, tmp_path / "in")
    data = load_dataset("auto", path.parent if whole else path)
    is_right(data, GREY if make is npz else COLOUR)
    assert data.origin.endswith(f", unpacked from {name}")


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar.gz"])
def test_photos_of_an_archive_are_read_once(tmp_path, monkeypatch, name):
    for number in range(40):
        path = tmp_path / "in" / f"class {number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (number, 0, 90)).save(path)
    path = pack(tmp_path / name, tmp_path / "in")
    first = load_dataset("auto", path)

    def never(*args, **more):
        raise AssertionError("read again")

    monkeypatch.setattr("mnistjax.data.pictures.read_picture", never)
    assert load_dataset("auto", path).sha256 == first.sha256


def test_a_zip_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("notes.txt", "x")
    with pytest.raises(DataError, match=f"^`data_dir` {tmp_path}/a.zip: .* but notes.txt"):
        load_dataset("auto", tmp_path / "a.zip")
    assert not list((tmp_path / "t").iterdir())


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "..\\x", "C:/x"])
def test_a_zip_that_leads_out_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("ok.txt", "x")
        archive.writestr(name, "x")
    with pytest.raises(DataError, match="leads out"), unpacked(tmp_path / "a.zip"):
        pass


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_tar_that_leads_out_is_refused(tmp_path, name, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        entry = tarfile.TarInfo("ok" if kind != tarfile.REGTYPE else name)
        entry.type, entry.linkname = kind, name
        archive.addfile(entry)
    with pytest.raises(DataError, match="leads out|outside|absolute"), unpacked(tmp_path / "a.tar"):
        pass


def test_a_tar_bomb_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        entry = tarfile.TarInfo("train.csv")
        entry.size = 2**27
        archive.addfile(entry, io.BytesIO(bytes(2**27)))
    with pytest.raises(DataError, match="too much to unpack"), unpacked(tmp_path / "a.tgz"):
        pass


def test_a_zip_bomb_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.csv", bytes(2**27))
    with pytest.raises(DataError, match="too much to unpack"), unpacked(tmp_path / "a.zip"):
        pass


# what is not read


def torch_file(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    return path.read_bytes()


def mat_7_3():
    return (
        b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n"
    )


@pytest.mark.parametrize(
    ("name", "contents", "says"),
    [
        ("data_batch_1", pickle.dumps({"data": [1]}, 2), "Python pickle.*binary version"),
        ("mnist.pkl.gz", gzip.compress(pickle.dumps([1])), "Python pickle.*binary version"),
        ("training.pt", torch_file, "PyTorch's Python pickle.*npz"),
        ("train_32x32.mat", mat_7_3(), "version 7.3 .HDF5.*-v7"),
        ("x.h5", b"\x89HDF\r\n\x1a\n", "is HDF5"),
        ("train.parquet", b"PAR1", "is Parquet"),
        ("x.npy", b"\x93NUMPY\x01\x00", "a single .npy"),
        ("a.csv", b"version https://git-lfs.github.com/spec/v1", "git-lfs pointer"),
        ("mnist.npz", b"<!DOCTYPE html><html>", "a web page"),
        ("a.tar.xz", b"\xfd7zXZ\x00", "an .xz archive.*unpack it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("whole", [False, True], ids=["file", "directory"])
def test_what_is_not_read_is_called_by_its_name(tmp_path, name, contents, says, whole):
    path = tmp_path / "outer" / name
    path.parent.mkdir()
    path.write_bytes(contents(path) if callable(contents) else contents)
    with pytest.raises(DataError, match=says):
        load_dataset("auto", tmp_path if whole else path)


def test_anything_else_is_refused_with_what_was_seen(tmp_path):
    for name in ("b.doc", "a.txt", "c.txt", "d.txt", "e.txt", "f.txt"):
        (tmp_path / name).write_text("x")
    seen = "but a.txt, b.doc, c.txt, d.txt, e.txt and 1 more .5 .txt, 1 .doc."
    with pytest.raises(DataError, match=f"{seen}.*Fix: pass .*IDX files, a .npz") as refused:
        load_dataset("auto", tmp_path)
    assert all(container.what in str(refused.value) for container in CONTAINERS)
    with pytest.raises(DataError, match="starts with 78: it is none"):
        load_dataset("auto", tmp_path / "b.doc")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="it is empty"):
        load_dataset("auto", tmp_path / "none")


def test_of_two_sets_neither_is_guessed(tmp_path):
    npz(tmp_path)
    other = npz(tmp_path, "other.npz", x=COLOUR, y=LABELS)
    with pytest.raises(DataError, match="2 data sets in it, with the files digits.npz, other.npz"):
        load_dataset("auto", tmp_path)
    assert load_dataset("auto", other).image_shape == (32, 32, 3)


# names


@pytest.mark.parametrize("name", ["MNIST", "Mnist", "mnist"])
def test_capitals_make_no_difference(tiny_idx_dir, name):
    assert load_dataset(name, tiny_idx_dir, verify=False).name == "mnist"


@pytest.mark.parametrize("name", ["Fashion-MNIST", "fashion_mnist", "FashionMNIST"])
def test_nor_does_what_stands_between_words(tiny_idx_dir, name):
    assert load_dataset(name, tiny_idx_dir, verify=False).name == "fashion_mnist"


def test_the_command_line_takes_them_too():
    from experiments.scratch import ScratchConfig

    config = ScratchConfig(dataset="Fashion-MNIST")
    config.validate()
    assert config.dataset == "fashion_mnist"


def test_idx_folders_of_torchvision(tmp_path):
    for folder in ("MNIST", "FashionMNIST"):
        raw = tmp_path / folder / "raw"
        raw.mkdir(parents=True)
        for role, array in tiny_arrays(len(folder)).items():
            (raw / FILES[role]).write_bytes(idx_bytes(array))
            (raw / f"{FILES[role]}.gz").write_bytes(gzip.compress(idx_bytes(array)))
    with pytest.raises(DataError, match="2 data sets below it, in FashionMNIST/raw, MNIST/raw"):
        load_dataset("auto", tmp_path, verify=False)
    for folder, name in (("MNIST", "mnist"), ("FashionMNIST", "fashion_mnist")):
        expected = tiny_arrays(len(folder))["train_images"][..., None]
        for asked, path in (("auto", tmp_path / folder), (name, tmp_path)):
            data = load_dataset(asked, path, verify=False)
            assert data.name == name
            np.testing.assert_array_equal(data.train.images, expected)
