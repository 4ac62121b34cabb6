"""From a path to a `Dataset`: what the directory, file or archive holds decides who reads it."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mnistjax.data.containers import (
    DEEPEST,
    IDX,
    READABLE,
    Found,
    find_below,
    find_set,
    plain_files,
)
from mnistjax.data.dataset import Dataset
from mnistjax.data.folder_layout import holds_labels, holds_pictures
from mnistjax.data.idx import CLASS_NAMES, MNIST_SHA256, load_idx
from mnistjax.data.idx_names import find_idx
from mnistjax.data.packed import is_packed, unpacked
from mnistjax.data.picture_files import subdirectories
from mnistjax.data.plain import head
from mnistjax.data.tfds_prepared import INFO, load_prepared
from mnistjax.data.unreadable import refusal, what_it_is
from mnistjax.errors import DataError

_TORCHVISION = {"MNIST": "mnist", "FashionMNIST": "fashion_mnist", "KMNIST": "kmnist"}


def load_path(
    name: str, path: Path, *, verify: bool, read_folder: Callable[[Path], Dataset]
) -> Dataset:
    """What lies at `path`, a directory or a file; a `name` other than `auto` takes nothing else.

    Images in folders are left to `read_folder`. Raises `DataError` for what cannot be read, with
    what was seen there and what can be read.
    """
    archive = _archive(name, path)
    if archive is None:
        return _load(name, path, verify=verify, read_folder=read_folder)
    with unpacked(archive) as directory:
        try:
            data = _load(name, directory, verify=verify, read_folder=read_folder)
        except DataError as error:  # of a place that is about to go
            what, why, fix = (
                text.replace(str(directory), str(archive))
                for text in (error.what, error.why, error.fix)
            )
            raise DataError(what, why, fix=fix) from error
    return dataclasses.replace(data, origin=f"{data.origin}, unpacked from {archive.name}")


def _archive(name: str, path: Path) -> Path | None:
    """The archive to read: `path`, or the only one in it where there is nothing else."""
    if path.is_file():
        known = find_set(path) if name != "folder" else None
        return path if is_packed(path) and not known and not what_it_is(head(path)) else None
    archives = [file for file in plain_files(path) if is_packed(file) and not find_set(file)]
    if len(archives) != 1 or holds_pictures(path):
        return None
    return None if find_set(path) or find_below(path) else archives[0]


def _load(
    name: str, path: Path, *, verify: bool, read_folder: Callable[[Path], Dataset]
) -> Dataset:
    if name == "folder":
        return read_folder(path)
    if (path / INFO).is_file():
        return load_prepared(path)
    found = _find(name, path)
    if found is None and path.is_dir():
        if name == "auto" and holds_labels(path):
            return read_folder(path)
        found = find_below(path)
        if name == "auto" and found is None and holds_pictures(path):
            return read_folder(path)  # which says what is wrong with them
    if found is None:
        raise refusal(path, _all_files(path), READABLE)
    if found.container is not IDX or found.key:
        data = found.container.load(found.key, found.files)
        return data if name == "auto" else _named(data, name, verify=verify)
    directory = found.files[0].parent
    own = directory.parent if directory.name == "raw" else directory
    known = _TORCHVISION.get(own.name, "mnist") if name == "auto" else name
    return load_idx(directory, name=known, verify=verify, any_classes=name == "auto")


def _find(name: str, path: Path) -> Found | None:
    """The set at `path`; of several the one that is called `name`."""
    if name == "auto" or path.is_file():
        return find_set(path)
    for folder, called in _TORCHVISION.items():
        if called == name and (path / folder).is_dir():
            return find_set(path / folder) or find_below(path / folder)
    usual = find_idx(plain_files(path))
    return Found(IDX, "", list(usual.values())) if usual else find_set(path)


def _named(data: Dataset, name: str, *, verify: bool) -> Dataset:
    """`data` as the set `name`; `DataError` if it cannot be that one."""
    whole = len(data.class_names) == len(CLASS_NAMES[name]) and not data.notice
    if not whole or (verify and (name == "mnist") != _is_mnist(data)):
        why = f"{data.origin} holds another set, with {len(data.class_names)} classes"
        raise DataError(f"`name={name!r}`", why, fix="pass `name='auto'`")
    return dataclasses.replace(data, name=name, class_names=CLASS_NAMES[name])


def _is_mnist(data: Dataset) -> bool:
    """Whether the training and test images, written as IDX, have MNIST's digests."""
    for part, split in {"train": data.train, "test": data.test}.items():
        grey = split.images[..., 0]
        header = bytes([0, 0, 8, 3]) + np.array(grey.shape, ">u4").tobytes()
        if hashlib.sha256(header + grey.tobytes()).hexdigest() != MNIST_SHA256[f"{part}_images"]:
            return False
    return True


def _all_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files, level = plain_files(path), [path]
    for _ in range(DEEPEST):
        level = [below for directory in level[:10] for below in subdirectories(directory)]
        files += [file for directory in level[:10] for file in plain_files(directory)[:10]]
    return files
