"""Your own pictures: a folder of them, of any size and format, as a data set."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mnistjax.data.dataset import Dataset, Split
from mnistjax.data.folder_layout import Labelled, Layout, find_layout, printable
from mnistjax.data.picture import Photos
from mnistjax.data.pictures import Pictures, read_pictures
from mnistjax.data.split import hold_out
from mnistjax.errors import DataError

TEST_SHARE = 0.2
PHOTOS = Photos()


def load_folder(
    directory: Path,
    *,
    photos: Photos = PHOTOS,
    limit_bytes: int | None = None,
    quiet: bool = True,
) -> Dataset:
    """The pictures in `directory` (`find_layout`) as uint8 squares (`Photos`).

    They are read once (`read_pictures`) and kept in the cache, `limit_bytes` of all folders
    together. Without a test split a fifth of every class is one, always the same fifth. What is
    left out is in `notice`. Raises `DataError` for a folder without labels and for files that
    cannot be read, naming them all at once, and `StorageError` where the cache has no room.
    """
    layout = _with_test(find_layout(directory))
    pictures = Pictures(_files(layout), layout.root, photos, limit_bytes, quiet)
    pixels, unreadable = read_pictures(pictures)
    if unreadable:
        if not photos.skip_unreadable:
            raise _unreadable(layout.root, unreadable)
        layout = _without(layout, unreadable)
        pixels, _ = read_pictures(pictures._replace(files=_files(layout)))
    number = {name: i for i, name in enumerate(layout.class_names)}
    splits, start = [], 0
    for part in (layout.train, layout.validation, layout.test):
        labels = np.array([number[name] for _, name in part], np.int32)
        splits.append(Split(pixels[start : start + len(part)], labels))
        start += len(part)
    train, validation, test = splits
    return Dataset(
        "folder",
        train=train,
        test=test,
        validation=validation if len(validation.labels) else None,
        class_names=layout.class_names,
        origin=printable(layout.root.name),
        notice="; ".join(layout.notices),
        test_files=tuple(_name(layout.root, path) for path, _ in layout.test),
        photos=photos,
    )


def _files(layout: Layout) -> list[Path]:
    """Split after split, so that each is a part of one array in a piece."""
    return [path for part in (layout.train, layout.validation, layout.test) for path, _ in part]


def _with_test(layout: Layout) -> Layout:
    if layout.test:
        return layout
    names = layout.class_names
    labels = np.array([names.index(name) for _, name in layout.train], np.int32)
    numbers = Split(np.arange(len(labels)).reshape(-1, 1, 1, 1), labels)
    kept, held = hold_out(numbers, fraction=TEST_SHARE, seed=0, class_names=names)
    train, test = ([layout.train[i] for i in part.images.ravel()] for part in (kept, held))
    return layout._replace(train=train, test=test)


def _without(layout: Layout, unreadable: Iterable[Path]) -> Layout:
    gone = set(unreadable)

    def readable(part: Labelled) -> Labelled:
        return [(path, name) for path, name in part if path not in gone]

    parts = [readable(part) for part in (layout.train, layout.validation, layout.test)]
    said = f"{len(gone):,} files cannot be read and are left out: {_named(layout.root, gone)}"
    train, validation, test = parts
    return Layout(layout.root, train, validation, test, [*layout.notices, said])


def _unreadable(root: Path, files: dict[Path, str]) -> DataError:
    if len(files) == 1:
        ((path, why),) = files.items()
        return DataError(str(path), why, fix=f"{_FIX} `skip_unreadable=True`")
    why = f"{len(files):,} files cannot be read: {_named(root, files)}"
    return DataError(str(root), why, fix=f"{_FIX} `skip_unreadable=True`")


_FIX = "replace or remove what is named, or pass"


def _name(root: Path, path: Path) -> str:
    return "/".join(map(printable, path.relative_to(root).parts))


def _named(root: Path, files: Iterable[Path]) -> str:
    names = sorted(_name(root, path) for path in files)
    return ", ".join([*names[:10], *([f"and {len(names) - 10} more"] if len(names) > 10 else [])])
