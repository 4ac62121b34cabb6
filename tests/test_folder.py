"""Folders of pictures as people have them: what is read, what is left out, and that it is said."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnistjax.cache_dir import cache_dir
from mnistjax.data import picture_files
from mnistjax.data import pictures as pictures_module
from mnistjax.data.folder import load_folder
from mnistjax.data.picture import Photos
from mnistjax.errors import DataError, StorageError

SMALL = Photos(size=12)


def photo(path, value=100, form="PNG", size=(12, 12), color=None):
    """A picture of one colour, made with the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color or (value,) * 3).save(path, form)


def photos(directory, count, value=100, suffix=".png", form="PNG"):
    for i in range(count):
        photo(directory / f"{i}{suffix}", value, form)


def two(root, count=5):
    for name, value in (("a", 50), ("b", 200)):
        photos(root / name, count, value)
    return root


def everything(data):
    parts = [data.train, data.test, *([data.validation] if data.validation else [])]
    return np.concatenate([part.images for part in parts])


def brightness(data, split):
    """The class that each image's brightness says it is."""
    return (getattr(data, split).images.mean((1, 2, 3)) > 125).astype(int).tolist()


def test_pictures_of_any_size_and_format_become_one_array(tmp_path):
    forms = {"PNG": ".png", "JPEG": ".JPG", "WEBP": ".webp", "BMP": ".bmp", "GIF": ".gif",
             "TIFF": ".tif", "AVIF": ".avif"}  # fmt: skip
    for name, value in (("a", 50), ("b", 200)):
        for i, (form, suffix) in enumerate(forms.items()):
            photo(tmp_path / name / f"{i}{suffix}", value, form, (10 + i, 40 - i))
        photo(tmp_path / name / "photo.jfif", value, "JPEG")
        photo(tmp_path / name / "no_suffix", value, "JPEG")
    data = load_folder(tmp_path, photos=SMALL)
    assert data.class_names == ("a", "b") and data.notice == ""
    assert everything(data).shape == (18, 12, 12, 1)
    for part in (data.train, data.test):
        bright = np.where(part.labels == 0, 50, 200)[:, None, None, None]
        assert np.abs(part.images.astype(int) - bright).max() <= 6


def test_what_is_left_out_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_files, "reads_heic", lambda: False)
    two(tmp_path)
    photo(tmp_path / "a" / "deep" / "er" / "x.png")
    photo(tmp_path / "loose.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("words")
    (tmp_path / "a" / "raw.nef").write_bytes(b"II*\0" + b"\0" * 40)
    (tmp_path / "a" / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 40)
    (tmp_path / "a" / ".hidden.png").write_bytes(b"no image")
    (tmp_path / "a" / "Thumbs.db").touch()
    (tmp_path / ".git").mkdir()
    notice = load_folder(tmp_path, photos=SMALL).notice
    kinds = "1 .txt, 1 .heic, 1 .nef; HEIC: pip install 'mnistjax[heic]'"
    assert f"3 files are no pictures that can be read ({kinds})" in notice
    assert "no picture in empty" in notice
    assert "1 pictures in deeper folders count for the class above" in notice
    assert "1 pictures beside the class folders are not used" in notice


@pytest.mark.parametrize(
    "names",
    [
        ("train", "valid", "test"),
        ("Training", "Validation", "Testing"),
        ("training_set", "val", "test_set"),
        ("TRAIN", "dev", "TEST"),
    ],
)
@pytest.mark.parametrize("outer", ["", "archive/photos"])
def test_splits_of_ones_own_are_the_splits(tmp_path, names, outer):
    for name, count in zip(names, (5, 3, 2), strict=True):
        two(tmp_path / outer / name, count)
    data = load_folder(tmp_path, photos=SMALL)
    assert data.validation is not None
    counts = [len(part.labels) for part in (data.train, data.validation, data.test)]
    assert counts == [10, 6, 4] and data.notice == ""
    for split in ("train", "validation", "test"):
        assert brightness(data, split) == getattr(data, split).labels.tolist()


def test_a_test_folder_without_labels_is_not_a_class(tmp_path):
    two(tmp_path / "train")
    photos(tmp_path / "test", 3)
    data = load_folder(tmp_path, photos=SMALL)
    assert data.class_names == ("a", "b") and len(data.test.labels) == 2
    assert data.notice == "test/: 3 pictures without class folders, not used"


def test_flat_train_beside_test_is_refused_with_what_was_seen(tmp_path):
    photos(tmp_path / "train", 4)
    photos(tmp_path / "test1", 3)
    seen = r"0 class folders.*test1/ with 3 pictures and 0 folders, train/ with 4 pictures"
    with pytest.raises(DataError, match=f"{seen}.*labels.csv"):
        load_folder(tmp_path)


def test_railways_may_be_a_class(tmp_path):
    for name in ("train", "car", "boat"):
        photos(tmp_path / name, 4)
    data = load_folder(tmp_path, photos=SMALL)
    assert data.class_names == ("boat", "car", "train")
    assert data.notice == "train/ counts as a class"


def test_classes_of_the_splits_are_compared(tmp_path):
    two(tmp_path / "train")
    photos(tmp_path / "test" / "a", 2)
    data = load_folder(tmp_path, photos=SMALL)
    assert data.notice == "no test picture of b"
    photos(tmp_path / "test" / "c", 2)
    with pytest.raises(DataError, match="test classes c are not those of training: a, b"):
        load_folder(tmp_path)


def test_empty_folder_and_single_class_are_refused(tmp_path):
    with pytest.raises(DataError, match="0 class folders.*it is empty.*one sub-folder per class"):
        load_folder(tmp_path)
    photos(tmp_path / "only", 2)
    with pytest.raises(DataError, match="1 class folders.*only/ with 2 pictures"):
        load_folder(tmp_path)


TABLES = {
    "labels.csv": "path,label\n{}/0.png,a\n{}/1.png,b\n{}/2.png,a\n{}/3.png,b\n",
    "train.csv": "id,breed\n0,a\n1,b\n2,a\n3,b\n",
    "labels.tsv": "filename\tclass\n0.png\ta\n1.png\tb\n2.png\ta\n3.png\tb\n",
    "annotations.csv": "image;split;category\n0;train;a\n1;train;b\n2;test;a\n3;test;b\n",
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("images", ["images", "."])
def test_a_table_names_the_classes(tmp_path, name, images):
    for i in range(4):
        photo(tmp_path / images / f"{i}.png", 200 if i % 2 else 50)
    photo(tmp_path / images / "more.png")
    (tmp_path / name).write_text(TABLES[name].format(*[images] * 4))
    data = load_folder(tmp_path, photos=SMALL)
    assert data.class_names == ("a", "b") and data.notice == f"1 pictures are not in {name}"
    assert brightness(data, "train") == data.train.labels.tolist()
    assert len(data.train.labels) == len(data.test.labels) == 2


def test_a_table_that_names_what_is_not_there_is_refused(tmp_path):
    photo(tmp_path / "0.png")
    (tmp_path / "labels.csv").write_text("path,label\n0.png,a\ngone.png,b\n../x.png,b\n")
    photo(tmp_path.parent / "x.png")
    with pytest.raises(DataError, match="2 of its pictures are not there, gone.png for one"):
        load_folder(tmp_path)


COLOURS = {"where any has it": (None, 3), "wanted": (True, 3), "not wanted": (False, 1)}


@pytest.mark.parametrize(("color", "channels"), COLOURS.values(), ids=COLOURS)
def test_colour_is_kept_where_any_picture_has_it(tmp_path, color, channels):
    two(tmp_path)
    photo(tmp_path / "a" / "red.jpg", form="JPEG", color=(250, 0, 0))
    data = load_folder(tmp_path, photos=SMALL._replace(color=color))
    assert everything(data).shape[-1] == channels
    again = load_folder(tmp_path, photos=SMALL._replace(color=color))
    np.testing.assert_array_equal(everything(again), everything(data))


def test_grey_ones_have_one_channel_unless_asked(tmp_path):
    two(tmp_path)
    assert load_folder(tmp_path, photos=SMALL).image_shape == (12, 12, 1)
    assert load_folder(tmp_path, photos=SMALL._replace(color=True)).image_shape == (12, 12, 3)


@pytest.mark.parametrize("counts", [(3, 3), (11, 11), (60, 2), (10,) * 10, (3, 100)])
def test_small_classes_are_in_every_split(tmp_path, counts):
    for i, count in enumerate(counts):
        photos(tmp_path / str(i), count)
    data = load_folder(tmp_path, photos=SMALL)
    assert set(data.test.labels) == set(data.train.labels) == set(range(len(counts)))
    assert len(data.test.labels) == pytest.approx(sum(counts) / 5, abs=len(counts))


def test_a_class_of_one_is_named(tmp_path):
    two(tmp_path)
    photo(tmp_path / "rare" / "x.png")
    with pytest.raises(DataError, match="class rare: has 1 example"):
        load_folder(tmp_path)


def break_some(root):
    (root / "a" / "3.png").write_bytes(b"text")
    whole = (root / "b" / "1.png").read_bytes()
    (root / "b" / "1.png").write_bytes(whole[: len(whole) // 2])


def test_all_unreadable_files_are_told_at_once_or_left_out(tmp_path, monkeypatch):
    break_some(two(tmp_path))
    for _ in range(2):
        with pytest.raises(DataError, match=r"2 files cannot be read: a/3.png, b/1.png.*skip_unr"):
            load_folder(tmp_path, photos=SMALL)
        monkeypatch.setattr(pictures_module, "read_picture", None)  # known from the first time
    monkeypatch.undo()
    data = load_folder(tmp_path, photos=SMALL._replace(skip_unreadable=True))
    assert len(everything(data)) == 8
    assert data.notice == "2 files cannot be read and are left out: a/3.png, b/1.png"
    monkeypatch.setattr(pictures_module, "read_picture", None)
    again = load_folder(tmp_path, photos=SMALL._replace(skip_unreadable=True))
    np.testing.assert_array_equal(everything(again), everything(data))
    (tmp_path / "b" / "1.png").unlink()
    monkeypatch.undo()
    with pytest.raises(DataError, match=f"{tmp_path}/a/3.png: cannot be read"):
        load_folder(tmp_path, photos=SMALL)


def test_a_second_time_no_file_is_read_and_a_changed_one_is_noticed(tmp_path, monkeypatch):
    first = load_folder(two(tmp_path), photos=SMALL)
    reading = pictures_module.read_picture
    monkeypatch.setattr(pictures_module, "read_picture", None)
    second = load_folder(tmp_path, photos=SMALL)
    assert second.sha256 == first.sha256 and isinstance(second.train.images, np.memmap)
    monkeypatch.setattr(pictures_module, "read_picture", reading)
    photo(tmp_path / "a" / "1.png", 60)
    assert load_folder(tmp_path, photos=SMALL).sha256 != first.sha256


def test_contents_are_looked_at_on_request(tmp_path):
    verify = SMALL._replace(verify=True)
    first = load_folder(two(tmp_path), photos=verify)
    path = tmp_path / "a" / "1.png"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    size = path.stat().st_size
    photo(path, 51)
    assert path.stat().st_size == size
    os.utime(path, ns=times)
    assert load_folder(tmp_path, photos=verify).sha256 != first.sha256


def test_a_damaged_row_on_disk_is_read_again(tmp_path):
    first = load_folder(two(tmp_path), photos=SMALL).sha256
    for path in (cache_dir() / "pictures").glob("*/pictures.npy"):
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.write_bytes(data)
    assert load_folder(tmp_path, photos=SMALL).sha256 == first


def test_damaged_facts_are_found_out_again(tmp_path):
    first = load_folder(two(tmp_path), photos=SMALL).sha256
    for path in (cache_dir() / "pictures").glob("*/facts.json"):
        path.write_text(json.dumps([1]))
    assert load_folder(tmp_path, photos=SMALL).sha256 == first


def test_more_than_the_limit_is_told(tmp_path):
    with pytest.raises(StorageError, match="more than the .* allowed.*cache_limit"):
        load_folder(two(tmp_path), photos=SMALL, limit_bytes=1000)


def test_a_link_to_nowhere_is_left_out_and_a_closed_directory_is_told(tmp_path, monkeypatch):
    (two(tmp_path) / "a" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    data = load_folder(tmp_path, photos=SMALL)
    assert data.notice == "1 files are no pictures that can be read (1 .jpg)"
    really = os.scandir

    def closed(path):
        if Path(path) == tmp_path / "b":
            raise PermissionError(13, "Permission denied", str(path))
        return really(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(DataError, match=f"{tmp_path}/b: Permission denied"):
        load_folder(tmp_path, photos=SMALL)


def test_names_of_any_bytes_and_links_in_a_circle(tmp_path):
    two(tmp_path)
    photos(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")), 3)
    (tmp_path / "a" / "back").symlink_to(tmp_path / "a")
    (tmp_path / "line\nbreak").mkdir()
    photos(tmp_path / "line\nbreak", 3)
    data = load_folder(tmp_path, photos=SMALL)
    assert data.class_names == ("a", "b", "café", "line\\nbreak")
    json.dumps(data.class_names).encode()
    assert len(everything(data)) == 16
    assert set(data.test_files) <= {
        f"{name}/{i}.png" for name in data.class_names for i in range(5)
    }
