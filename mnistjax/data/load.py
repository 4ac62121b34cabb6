"""One name to a `Dataset`, whatever the source."""

import dataclasses
from functools import partial
from pathlib import Path

from mnistjax.data.dataset import Dataset
from mnistjax.data.digits import load_digits
from mnistjax.data.folder import PHOTOS, load_folder
from mnistjax.data.on_disk import load_path
from mnistjax.data.picture import Photos
from mnistjax.data.tfds_prepared import find_prepared, load_prepared
from mnistjax.errors import DataError, NetworkError, UsageError

TFDS = "tfds:"  # and the name of any set that tensorflow-datasets has prepared
DATASETS = ("auto", "digits", "mnist", "fashion_mnist", "kmnist", "folder")


def load_dataset(
    name: str = "auto",
    data_dir: Path | str | None = None,
    *,
    photos: Photos = PHOTOS,
    verify: bool = True,
    limit_bytes: int | None = None,
    quiet: bool = True,
) -> Dataset:
    """Load a data set by name; capitals and `-` for `_` make no difference.

    `auto` is what lies in `data_dir`, a directory or a file (IDX files are MNIST, sub-folders of
    images are `folder`, `containers.CONTAINERS` lists what else is read); without one, MNIST from
    the cache or the network, else the bundled digits with a `notice` that says so. A named set is
    strict: it comes, or `DataError` says why not; `tfds:cifar10` is any image set that
    tensorflow-datasets has prepared (`load_prepared`). `photos` is how pictures of folders are
    read, and `limit_bytes` what all of them together may take on disk (`load_folder`);
    `verify=False` takes IDX files whose digests are not MNIST's.

    >>> data = load_dataset("digits")
    >>> data.name, data.train.images.dtype.name, len(data.test.labels)
    ('digits', 'uint8', 360)
    """
    name = dataset_name(name)
    path = None if data_dir is None else Path(data_dir).expanduser()
    if name.startswith(TFDS):
        return load_prepared(find_prepared(name.removeprefix(TFDS), path))
    UsageError.unless_in("`name`", name, DATASETS)
    if name == "digits":
        return load_digits()
    if path is not None:
        if not path.exists():
            fix = "pass a directory or a file that exists"
            raise DataError(f"`data_dir` {path}", "no such directory or file", fix=fix)
        read_folder = partial(load_folder, photos=photos, limit_bytes=limit_bytes, quiet=quiet)
        return load_path(name, path, verify=verify, read_folder=read_folder)
    if name == "auto":
        return _mnist_or_digits(quiet=quiet)
    if name == "folder":
        fix = "pass `data_dir` with one sub-folder per class"
        raise DataError("`name='folder'`", "no folder was named", fix=fix)
    return _load_tfds(name, quiet=quiet)


def dataset_name(name: str) -> str:
    """`name` as `DATASETS` spells it, if only capitals, `-` or `_` differ.

    >>> dataset_name("Fashion-MNIST"), dataset_name("FashionMNIST"), dataset_name("mnits")
    ('fashion_mnist', 'fashion_mnist', 'mnits')
    """
    plain = name.lower().replace("-", "").replace("_", "")
    return next((known for known in DATASETS if known.replace("_", "") == plain), name)


def _mnist_or_digits(*, quiet: bool) -> Dataset:
    try:
        return _load_tfds("mnist", quiet=quiet)
    except NetworkError as error:
        why = f"MNIST is not on this disk and could not be downloaded ({error.told})"
        notice = f"{why}: this is the small digits set of scikit-learn, not MNIST"
        return dataclasses.replace(load_digits(), notice=notice)


def _load_tfds(name: str, *, quiet: bool) -> Dataset:
    from mnistjax.data.tfds import load_tfds

    return load_tfds(name, quiet=quiet)
