import numpy as np
import pytest
from PIL import Image

from mnistjax.data.folder import load_folder
from mnistjax.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """Two classes of ten images of all sizes, modes and both formats."""
    modes = ["L", "RGB", "RGBA", "P", "LA"]
    for name, value in [("b", 200), ("a", 50)]:
        (tmp_path / name).mkdir()
        for i in range(10):
            image = Image.new("RGB", (10 + i, 40 - i), (value, value, value))
            if i < 5:
                image.convert(modes[i]).save(tmp_path / name / f"{i}.png")
            else:
                image.save(tmp_path / name / f"{i}.JPG", "JPEG")
    (tmp_path / "a" / ".hidden.png").write_bytes(b"no image")
    (tmp_path / "a" / "notes.txt").touch()
    (tmp_path / ".git").mkdir()
    return tmp_path


@pytest.mark.parametrize(("color", "channels"), [(False, 1), (True, 3)])
def test_any_size_and_mode_becomes_one_array(folder, color, channels):
    data = load_folder(folder, image_size=12, color=color)
    assert data.class_names == ("a", "b")
    assert data.train.images.shape == (16, 12, 12, channels)
    for images, labels in (data.train, data.test):
        bright = np.where(labels == 0, 50, 200)[:, None, None, None]
        assert np.abs(images.astype(int) - bright).max() <= 12  # a palette is coarse


def test_sixteen_bits_are_scaled_and_a_transparent_colour_is_no_warning(folder):
    grey = np.full((12, 12), 50 * 256 + 7, np.uint16)
    Image.fromarray(grey).save(folder / "a" / "0.png")
    Image.new("P", (12, 12), 3).save(folder / "a" / "1.png", transparency=b"\x80" * 4)
    data = load_folder(folder, image_size=12)
    images = np.concatenate([data.train.images, data.test.images])
    assert any((image == 50).all() for image in images)


def test_train_and_test_folders_are_the_splits(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    (root / "train").symlink_to(folder)
    (root / "test" / "a").mkdir(parents=True)
    (root / "test" / "b").mkdir()
    for name in "ab":
        Image.new("L", (5, 5)).save(root / "test" / name / "x.png")
    data = load_folder(root)
    assert len(data.train.labels) == 20 and data.test.labels.tolist() == [0, 1]
    (root / "test" / "b" / "x.png").unlink()
    with pytest.raises(DataError, match="its classes"):
        load_folder(root)


def test_empty_folder_and_single_class_are_refused(tmp_path):
    with pytest.raises(DataError, match="0 class folders.*one sub-folder per class"):
        load_folder(tmp_path)
    (tmp_path / "only").mkdir()
    Image.new("L", (5, 5)).save(tmp_path / "only" / "x.png")
    with pytest.raises(DataError, match="1 class folders"):
        load_folder(tmp_path)


@pytest.mark.parametrize("damage", [lambda data: b"text", lambda data: data[: len(data) // 2]])
def test_a_damaged_image_is_named(folder, damage):
    path = folder / "a" / "3.png"
    noise = np.random.default_rng(0).integers(0, 255, (40, 40)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"{path}: cannot be read"):
        load_folder(folder)


def test_a_huge_image_is_refused_unread(folder, monkeypatch):
    monkeypatch.setattr("mnistjax.data.folder.MAX_PIXELS", 100)
    with pytest.raises(DataError, match="pixels, more than 100"):
        load_folder(folder)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own guard speaks first
    with pytest.raises(DataError, match="cannot be read"):
        load_folder(folder)
