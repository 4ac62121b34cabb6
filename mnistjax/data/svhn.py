"""SVHN's cropped digits: train_32x32.mat and test_32x32.mat.

Source: Y. Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, 2011
(http://ufldl.stanford.edu/housenumbers): X [32, 32, 3, n] and y [n, 1], where 10 stands for a 0.
"""

from pathlib import Path

import numpy as np

from mnistjax.data.dataset import Dataset
from mnistjax.data.from_arrays import as_images, as_labels, make_dataset
from mnistjax.data.mat import is_mat5, read_mat
from mnistjax.data.part_names import part_name
from mnistjax.errors import DataError

CLASS_OF = {number: str(number % 10) for number in (10, *range(10))}


def svhn_set(path: Path, start: bytes) -> str | None:
    """The set of a .mat file of version 5, told by its first bytes."""
    return part_name(path.name).key if is_mat5(start) else None


def load_svhn(key: str, files: list[Path]) -> Dataset:
    """Read train_32x32.mat and test_32x32.mat; extra_32x32.mat is left out, and that is said.

    Raises `DataError` for a file without X [height, width, channels, n] and y.
    """
    by_part = {part_name(path.name).part: path for path in files}
    first = "train" if "train" in by_part else ""
    if first not in by_part:
        there = ", ".join(path.name for path in files)
        raise DataError(str(files[0].parent), f"only {there}", fix="put train_32x32.mat there, too")
    parts = {part: _read(by_part[part]) for part in (first, "test") if part in by_part}
    left_out = [path.name for part, path in by_part.items() if part not in parts]
    notice = f"left out {', '.join(left_out)}" if left_out else ""
    return make_dataset(key or "svhn", parts, origin=".mat files", class_of=CLASS_OF, notice=notice)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    arrays = read_mat(path, ("X", "y"))
    if arrays["X"].ndim != 4:
        why = f"X has shape {arrays['X'].shape}, SVHN's has [32, 32, 3, n]"
        raise DataError(str(path), why, fix="pass SVHN's cropped digits, train_32x32.mat")
    images = as_images(arrays["X"].transpose(3, 0, 1, 2), f"{path}: X")
    return images, as_labels(arrays["y"], f"{path}: y")
