"""One name to a `Dataset`, whatever the source."""

import dataclasses
from pathlib import Path

from mnistjax.data.dataset import Dataset
from mnistjax.data.digits import load_digits
from mnistjax.data.folder import class_folders, load_folder
from mnistjax.data.idx import find_idx, load_idx
from mnistjax.errors import DataError, NetworkError, UsageError

DATASETS = ("auto", "digits", "mnist", "fashion_mnist", "kmnist", "folder")


def load_dataset(
    name: str = "auto",
    data_dir: Path | str | None = None,
    *,
    image_size: int = 28,
    color: bool = False,
    verify: bool = True,
    quiet: bool = True,
) -> Dataset:
    """Load a data set by name.

    `auto` is what lies in `data_dir` (IDX files are MNIST, sub-folders of images are `folder`);
    without one, MNIST from the cache or the network, else the bundled digits with a `notice` that
    says so. A named set is strict: it comes, or `DataError` says why not. `image_size` and
    `color` are for folders; `verify=False` takes IDX files whose digests are not MNIST's.

    >>> data = load_dataset("digits")
    >>> data.name, data.train.images.dtype.name, len(data.test.labels)
    ('digits', 'uint8', 360)
    """
    UsageError.unless_in("`name`", name, DATASETS)
    directory = None if data_dir is None else Path(data_dir).expanduser()
    if directory is not None and not directory.is_dir():
        why = "no such directory" if not directory.exists() else "not a directory"
        raise DataError(f"`data_dir` {directory}", why, fix="pass a directory that exists")
    if name == "auto":
        if directory is None:
            return _mnist_or_digits(quiet=quiet)
        name = _name_by_contents(directory)
    if name == "folder":
        if directory is None:
            fix = "pass `data_dir` with one sub-folder per class"
            raise DataError("`name='folder'`", "no folder was named", fix=fix)
        return load_folder(directory, image_size=image_size, color=color, quiet=quiet)
    if name == "digits":
        return load_digits()
    if directory is not None:
        return load_idx(directory, name=name, verify=verify)
    return _load_tfds(name, quiet=quiet)


def _name_by_contents(directory: Path) -> str:
    if find_idx(directory):
        return "mnist"
    if class_folders(directory) or class_folders(directory / "train"):
        return "folder"
    why = "neither IDX files nor sub-folders of PNG or JPEG images in it"
    raise DataError(f"`data_dir` {directory}", why, fix="pass a directory that holds either")


def _mnist_or_digits(*, quiet: bool) -> Dataset:
    try:
        return _load_tfds("mnist", quiet=quiet)
    except NetworkError as error:
        why = f"MNIST is not on this disk and could not be downloaded ({error.why})"
        notice = f"{why}: this is the small digits set of scikit-learn, not MNIST"
        return dataclasses.replace(load_digits(), notice=notice)


def _load_tfds(name: str, *, quiet: bool) -> Dataset:
    from mnistjax.data.tfds import load_tfds

    return load_tfds(name, quiet=quiet)
