"""CIFAR-10 and CIFAR-100 in their binary version.

Format: https://www.cs.toronto.edu/~kriz/cifar.html: a record is one label (CIFAR-10) or a coarse
and a fine one (CIFAR-100), then 3,072 bytes, the red, the green and the blue 32x32 plane.
"""

import re
from pathlib import Path

import numpy as np

from mnistjax.data.dataset import Dataset
from mnistjax.data.from_arrays import make_dataset
from mnistjax.data.plain import AGAIN, check_size, open_plain, read_up_to
from mnistjax.errors import DataError

PIXELS = 3 * 32 * 32
CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def cifar_set(path: Path, start: bytes) -> str | None:
    """cifar10 or cifar100 by the file's name; as it has no magic, its size must be whole records.

    A damaged file of CIFAR-10's names, which nothing else has, is taken for one.
    """
    if re.fullmatch(r"(data_batch_\d+|test_batch)\.bin", path.name):
        return "cifar10"
    if path.name not in ("train.bin", "test.bin"):
        return None
    by_names = path.with_name("fine_label_names.txt").is_file()
    records = path.stat().st_size
    return "cifar100" if by_names or (records and records % (PIXELS + 2) == 0) else None


def load_cifar(key: str, files: list[Path]) -> Dataset:
    """Read data_batch_*.bin and test_batch.bin (CIFAR-10), or train.bin and test.bin (CIFAR-100).

    CIFAR-100's labels are the fine ones. Classes are named by `batches.meta.txt` or
    `fine_label_names.txt` beside them. Raises `DataError` for files cut short.
    """
    labels, count = (1, 10) if key == "cifar10" else (2, 100)
    test = [path for path in files if path.name.startswith("test")]
    train = [path for path in files if path not in test]
    if not train:
        wanted = "data_batch_1.bin" if key == "cifar10" else "train.bin"
        raise DataError(str(files[0].parent), f"no {wanted}", fix="put it there, too")
    parts = {"train": _read(train, labels)}
    if test:
        parts["test"] = _read(test, labels)
    names = "batches.meta.txt" if key == "cifar10" else "fine_label_names.txt"
    known = CIFAR10 if key == "cifar10" else tuple(str(number) for number in range(100))
    class_of = dict(enumerate(_names(files[0].with_name(names), count) or known))
    notice = ""
    if key == "cifar10" and len(train) < 5:
        notice = f"only {len(train)} of CIFAR-10's 5 training batches are there"
    return make_dataset(key, parts, origin="binary version", class_of=class_of, notice=notice)


def _read(paths: list[Path], labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Images [n, 32, 32, 3] and the last label of each record, of all files in order."""
    records = np.concatenate([_records(path, labels + PIXELS) for path in sorted(paths)])
    planes = records[:, labels:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, labels - 1]


def _records(path: Path, width: int) -> np.ndarray:
    size = path.stat().st_size
    check_size(path, size)
    with open_plain(path) as file:
        body = read_up_to(file, size + 1)
    if not body or len(body) % width:
        why = f"{len(body):,} bytes are no whole number of records of {width:,}"
        raise DataError(str(path), why, fix=AGAIN)
    return np.frombuffer(body, np.uint8).reshape(-1, width)


def _names(path: Path, count: int) -> list[str]:
    """The lines of a file of class names; none if it is not there."""
    if not path.is_file():
        return []
    with open_plain(path) as file:
        text = read_up_to(file, 2**16).decode("utf-8", "replace")
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if len(set(names)) != count or len(names) != count or not all(map(str.isprintable, names)):
        why = f"{len(set(names))} names, not {count}"
        raise DataError(str(path), why, fix="get the file again, or remove it")
    return names
