"""Your own images: one sub-folder per class, PNG or JPEG of any size."""

from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from mnistjax.data.dataset import Dataset, Split
from mnistjax.data.split import hold_out
from mnistjax.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")
MAX_PIXELS = 36_000_000  # 144 MB decoded; a larger claim is refused before that


def load_folder(
    directory: Path, *, image_size: int = 28, color: bool = False, quiet: bool = True
) -> Dataset:
    """Read `directory/<class>/*.png|jpg|jpeg`, resized to `image_size` squares, grey or RGB.

    Where `directory` holds `train/` and `test/`, each with the same classes, these are the splits;
    else a fifth of every class (stratified, always the same fifth) is the test split. Classes and
    files are taken in sorted order. Images are squeezed to the square with Pillow's bicubic.
    Raises `DataError` for a missing or empty folder, fewer than two classes, an unreadable image.
    """
    parts = [directory / "train", directory / "test"]
    split_by_user = all(part.is_dir() for part in parts)
    class_names = class_folders(parts[0] if split_by_user else directory)
    if len(class_names) < 2:
        why = f"{len(class_names)} class folders with PNG or JPEG images, at least 2 are needed"
        raise DataError(f"`data_dir` {directory}", why, fix="make one sub-folder per class")

    def read(part: Path) -> Split:
        files = [(path, i) for i, name in enumerate(class_names) for path in images(part / name)]
        shown = track(files, f"Reading {part.name}", disable=quiet, transient=True)
        pixels = [read_image(path, size=image_size, color=color) for path, _ in shown]
        labels = np.array([label for _, label in files], np.int32)
        shape = (-1, image_size, image_size, 3 if color else 1)
        return Split(np.array(pixels, np.uint8).reshape(shape), labels)

    if split_by_user:
        if (names := class_folders(parts[1])) != class_names:
            why = f"its classes {list(names)} are not those of train/ {list(class_names)}"
            raise DataError(str(parts[1]), why, fix="use the same sub-folders in both")
        train, test = (read(part) for part in parts)
    else:
        train, test = hold_out(read(directory), fraction=0.2, seed=0)
    return Dataset("folder", train=train, test=test, class_names=class_names, origin=directory.name)


def class_folders(directory: Path) -> tuple[str, ...]:
    """Names of the sub-folders that hold images, sorted; none if there is no such directory."""
    if not directory.is_dir():
        return ()
    return tuple(sorted(path.name for path in directory.iterdir() if images(path)))


def images(directory: Path) -> list[Path]:
    """The PNG and JPEG files right in `directory`, sorted; hidden files are left out."""
    if not directory.is_dir() or directory.name.startswith("."):
        return []
    files = (path for path in directory.iterdir() if path.suffix.lower() in SUFFIXES)
    return sorted(path for path in files if not path.name.startswith("."))


def read_image(path: Path, *, size: int, color: bool) -> np.ndarray:
    """The image as uint8 [size, size] or [size, size, 3]; `DataError` if it is none.

    A PNG must have its checksums right. JPEG has none: a changed byte may be a changed picture.
    """
    fix = "replace or remove the file"
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                why = f"{image.width}x{image.height} pixels, more than {MAX_PIXELS:,}"
                raise DataError(str(path), why, fix=fix)
            image.verify()  # lengths too: loading would reserve what a damaged one says
        with Image.open(path, formats=FORMATS) as image:  # `verify` has used up the other
            if image.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if "transparency" in image.info:  # else Pillow warns
                image = image.convert("RGBA")
            image = image.convert("RGB" if color else "L")
            return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        why = f"cannot be read as PNG or JPEG ({error})"
        raise DataError(str(path), why, fix=fix) from error
