import gzip
import hashlib
import json
import shutil
import sys

import numpy as np
import pytest

from mnistjax.data import tfds as tfds_module
from mnistjax.data.dataset import as_split
from mnistjax.data.idx import CLASS_NAMES, FILES, load_idx
from mnistjax.data.load import load_dataset
from mnistjax.data.source import SourceImages
from mnistjax.data.tfds import load_tfds
from mnistjax.errors import DataError, NetworkError


@pytest.fixture
def tiny_upstream(tiny_idx_dir, monkeypatch):
    """TFDS's published files replaced by the tiny ones, with their true digests."""
    from tensorflow_datasets.core.download import checksums

    real = checksums.load_url_infos

    def tiny(path):
        infos = real(path)  # TFDS asks for those of all its data sets
        for url in infos:
            file = tiny_idx_dir / url.rsplit("/", 1)[1]
            if not file.is_file():
                continue
            sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
            size = file.stat().st_size
            infos[url] = checksums.UrlInfo(size=size, checksum=sha256, filename=file.name)
        return infos

    fetched = []

    def copy(url, path, **_):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny_idx_dir / path.name, path)
        fetched.append(url)

    monkeypatch.setattr(checksums, "load_url_infos", tiny)
    monkeypatch.setattr(tfds_module, "download", copy)
    monkeypatch.setattr(tfds_module, "COUNTS", {"train": 60, "test": 20})
    return fetched


def same(one, other):
    for mine, its in zip((*one.train, *one.test), (*other.train, *other.test), strict=True):
        np.testing.assert_array_equal(mine, its)
        assert mine.dtype == its.dtype


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_equals_the_idx_files_in_their_order_without_tensorflow(name, tiny_upstream, tiny_idx_dir):
    data = load_tfds(name, quiet=True)
    same(data, load_idx(tiny_idx_dir, name=name, verify=False))
    assert data.class_names == CLASS_NAMES[name]
    assert "tensorflow" not in sys.modules


def test_the_second_time_comes_from_the_cache(tiny_upstream, monkeypatch):
    first = load_tfds("mnist", quiet=True)
    monkeypatch.setattr(tfds_module, "make_builder", lambda *_, **__: pytest.fail("prepared"))
    second = load_tfds("mnist", quiet=True)
    assert second.sha256 == first.sha256


def test_a_prepared_source_is_taken_as_it_is_by_several_threads(
    tiny_upstream, tiny_idx_dir, own_cache, monkeypatch
):
    load_tfds("mnist", quiet=True)
    builder = tfds_module.make_builder("mnist", data_dir=own_cache / "tfds")
    monkeypatch.setattr("mnistjax.data.source.LEAST", 0)
    images, labels = as_split(builder.as_data_source(split="train"))
    wanted = load_idx(tiny_idx_dir, name="mnist", verify=False).train
    assert isinstance(images, SourceImages) and labels.dtype == np.int32
    np.testing.assert_array_equal(images[:], wanted.images)
    np.testing.assert_array_equal(labels, wanted.labels)


def test_no_room_for_the_arrays_is_no_reason_not_to_train(tiny_upstream, own_cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert len(load_tfds("mnist", quiet=True).train.labels) == 60
    assert not list((own_cache / "arrays").iterdir())


def test_a_damaged_cache_is_prepared_again(tiny_upstream, own_cache):
    first = load_tfds("mnist", quiet=True)
    path = own_cache / "arrays" / "mnist" / "train_images.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    tiny_upstream.clear()
    assert load_tfds("mnist", quiet=True).sha256 == first.sha256
    assert tiny_upstream


@pytest.mark.parametrize("damage", [(b"|u1", b"|i1"), (b"shape", b"sh\0pe")])
def test_a_damaged_header_in_the_cache_is_prepared_again(tiny_upstream, own_cache, damage):
    load_tfds("mnist", quiet=True)
    path = own_cache / "arrays" / "mnist" / "train_images.npy"
    path.write_bytes(path.read_bytes().replace(*damage))
    tiny_upstream.clear()
    assert load_tfds("mnist", quiet=True).train.images.dtype == np.uint8
    assert tiny_upstream


def test_a_short_split_is_refused(tiny_upstream, monkeypatch):
    monkeypatch.setattr(tfds_module, "COUNTS", {"train": 60, "test": 21})
    with pytest.raises(DataError, match="20 examples, not 21"):
        load_tfds("mnist", quiet=True)


def test_files_that_changed_on_the_way_are_refused(tiny_upstream, tiny_idx_dir, monkeypatch):
    def damage(url, path, **_):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(b"else"))

    monkeypatch.setattr(tfds_module, "download", damage)
    with pytest.raises(Exception, match="[Cc]hecksum"):
        load_tfds("mnist", quiet=True)


def offline(*_, **__):
    raise NetworkError("download", "no connection", fix="-")


def test_auto_falls_back_aloud_and_a_name_is_strict(monkeypatch):
    monkeypatch.setattr(tfds_module, "download", offline)
    data = load_dataset("auto")
    assert data.name == "digits" and "no connection" in data.notice and "not MNIST" in data.notice
    with pytest.raises(NetworkError):
        load_dataset("mnist")


def test_auto_takes_what_lies_in_the_directory(tiny_idx_dir, tmp_path):
    assert load_dataset("auto", tiny_idx_dir, verify=False).name == "mnist"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="neither IDX files nor sub-folders"):
        load_dataset("auto", tmp_path / "empty")
    with pytest.raises(DataError, match="no such directory"):
        load_dataset("auto", tmp_path / "missing")
    assert set(FILES) == set(tfds_module.ROLES)


def test_any_prepared_set_is_read(tiny_upstream, tiny_idx_dir, own_cache, monkeypatch):
    load_tfds("mnist", quiet=True)
    wanted = load_idx(tiny_idx_dir, name="mnist", verify=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(own_cache / "tfds"))
    named = load_dataset("tfds:mnist")
    (directory,) = (own_cache / "tfds" / "mnist").iterdir()
    for data in (named, load_dataset("auto", directory)):
        assert data.sha256 == wanted.sha256 and data.class_names == tuple("0123456789")
    with pytest.raises(DataError, match=r"tfds:cifar10.*is not prepared in .*tfds build cifar10"):
        load_dataset("tfds:cifar10")
    info = json.loads((directory / "dataset_info.json").read_text())
    (directory / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    with pytest.raises(DataError, match="prepared as tfrecord, .*--file_format=array_record"):
        load_dataset("tfds:mnist")
    (directory / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="prepare the set anew"):
        load_dataset("auto", directory)
