"""Which files hold a data set, by their contents, and who reads them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from mnistjax.data.cifar import cifar_set, load_cifar
from mnistjax.data.dataset import Dataset
from mnistjax.data.idx import load_other_idx
from mnistjax.data.idx_names import idx_set
from mnistjax.data.npz import load_npz, npz_set
from mnistjax.data.picture_files import SUFFIXES, subdirectories
from mnistjax.data.pixel_csv import csv_set, load_csv
from mnistjax.data.plain import head
from mnistjax.data.svhn import load_svhn, svhn_set
from mnistjax.errors import DataError


class Container(NamedTuple):
    """A format: what it is called, which set of its kind a file belongs to, who reads such a set.

    `set_of(path, first bytes)` is None for a file of another format.
    """

    what: str
    set_of: Callable[[Path, bytes], str | None]
    load: Callable[[str, list[Path]], Dataset]


IDX = Container("IDX files", idx_set, load_other_idx)
CONTAINERS = (
    IDX,
    Container("a .npz of arrays", npz_set, load_npz),
    Container("CIFAR's binary version", cifar_set, load_cifar),
    Container("SVHN's .mat files", svhn_set, load_svhn),
    Container("a .csv of label,pixel0,...", csv_set, load_csv),
)
READABLE = (*(each.what for each in CONTAINERS), "a .zip of one", "a folder for each class")
MOST_FILES, DEEPEST = 500, 3


class Found(NamedTuple):
    """A data set on disk: its container, its name there, its files."""

    container: Container
    key: str
    files: list[Path]


def plain_files(directory: Path) -> list[Path]:
    """The files right in `directory` that may hold a data set: not hidden, no pictures."""
    files = (
        path
        for path in directory.iterdir()
        if not path.name.startswith(".") and path.suffix.lower() not in SUFFIXES and path.is_file()
    )
    return sorted(files)[:MOST_FILES]


def find_set(path: Path) -> Found | None:
    """The data set that `path` holds, or, for a file, that it is a part of; None if there is none.

    Raises `DataError` where several are there: the files themselves say which is meant.
    """
    if path.is_file():
        mine = list(_claims(path))
        if not mine:
            return None
        container, key = mine[0]
        beside = [file for file in plain_files(path.parent) if (container, key) in _claims(file)]
        return Found(container, key, beside or [path])
    found: dict[tuple[Container, str], list[Path]] = {}
    for file in plain_files(path):
        for claim in _claims(file):
            found.setdefault(claim, []).append(file)
    if len(found) > 1:
        one_of_each = [files[0].name for files in found.values()]
        why = f"{len(found)} data sets in it, with the files {', '.join(one_of_each[:6])}"
        fix = f"pass one of its files, as `data_dir={next(iter(found.values()))[0]}`"
        raise DataError(f"`data_dir` {path}", why, fix=fix)
    return next((Found(*claim, files) for claim, files in found.items()), None)


def find_below(directory: Path) -> Found | None:
    """The data set in the folders below `directory`: `MNIST/raw/`, or one more folder around.

    Raises `DataError` where several folders of one depth hold one.
    """
    level = [directory]
    for _ in range(DEEPEST):
        level = [path for above in level for path in subdirectories(above)][:MOST_FILES]
        if found := {path: hit for path in level if (hit := find_set(path))}:
            if len(found) > 1:
                names = [str(path.relative_to(directory)) for path in found]
                why = f"{len(found)} data sets below it, in {', '.join(names[:6])}"
                fix = f"pass one of them, as `data_dir={next(iter(found))}`"
                raise DataError(f"`data_dir` {directory}", why, fix=fix)
            return next(iter(found.values()))
    return None


def _claims(path: Path) -> Iterator[tuple[Container, str]]:
    """The one container, if any, that reads `path`, with the set it belongs to."""
    start = head(path)
    for container in CONTAINERS:
        if (key := container.set_of(path, start)) is not None:
            yield container, key
            return
