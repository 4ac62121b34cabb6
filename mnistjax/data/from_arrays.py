"""Arrays of any source to a `Dataset`: uint8 NHWC images, labels 0..n-1 and their names."""

from collections.abc import Mapping
from math import isqrt

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from mnistjax.data.dataset import Dataset, Split
from mnistjax.data.split import hold_out
from mnistjax.errors import DataError

Parts = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Images and labels as a file holds them, by part: train, perhaps test and val, or "" for all."""


def as_images(
    array: Shaped[np.ndarray, "..."], where: str
) -> UInt8[np.ndarray, "n height width channels"]:
    """Images as uint8 [n, height, width, 1 or 3], from [n, h, w], [n, h, w, c] or rows of squares.

    Other types are taken if all values are whole numbers from 0 to 255. Raises `DataError` with the
    shape or the values there are. `where` names the array for who reads that.

    >>> as_images(np.full((2, 784), 255.0), "x_train").shape
    (2, 28, 28, 1)
    """
    if array.dtype.kind not in "iuf":
        fix = "save it as uint8"
        raise DataError(where, f"holds values of type {array.dtype}, images need numbers", fix=fix)
    if array.ndim == 2 and isqrt(array.shape[1]) ** 2 == array.shape[1]:
        array = array.reshape(len(array), isqrt(array.shape[1]), isqrt(array.shape[1]))
    images = array[..., None] if array.ndim == 3 else array
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        why = f"has shape {array.shape}, images need [n, height, width] or [n, height, width, 1|3]"
        raise DataError(where, why, fix="save it in that shape, channels last")
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    low, high = images.min(), images.max()
    whole = images.dtype.kind != "f" or (high > 1 and np.array_equal(images, np.floor(images)))
    if not (whole and low >= 0 and high <= 255):
        why = f"{images.dtype} values from {low:g} to {high:g}, whole ones from 0 to 255 are needed"
        raise DataError(where, why, fix="save the images as uint8 from 0 to 255")
    return images.astype(np.uint8)


def as_labels(array: Shaped[np.ndarray, "..."], where: str) -> Int64[np.ndarray, " n"]:
    """Labels as int64 [n], from whole numbers of any type in [n] or [n, 1]; else `DataError`.

    >>> as_labels(np.array([[3], [7]], np.uint8), "y_train")
    array([3, 7])
    """
    fix = "save one whole number for each image"
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        why = f"{array.dtype} of shape {array.shape}, labels need one whole number for each image"
        raise DataError(where, why, fix=fix)
    with np.errstate(invalid="ignore"):
        labels = array.astype(np.int64)
    high = labels.max(initial=0)
    if not np.array_equal(labels, array) or not 0 <= labels.min(initial=0) <= high < 2**31:
        why = "labels need whole numbers from 0 to 2147483647"
        raise DataError(where, why, fix=fix)
    return labels


def make_dataset(
    name: str,
    parts: Parts,
    *,
    origin: str,
    class_of: Mapping[int, str] | None = None,
    notice: str = "",
) -> Dataset:
    """A `Dataset` from `parts`; without a test part a stratified fifth of it, and that is said.

    `class_of` names each label that may occur, in the order of the classes. Without it the
    distinct labels are the classes, each named by itself. Raises `DataError` for a label without
    a class, a class of one example, shapes or counts that disagree.
    """
    first = parts["train" if "train" in parts else ""]
    if class_of is None:
        class_of = _classes_of(name, first[1])
    ready = {
        part: Split(images, _numbered(f"{name} {part or 'labels'}", labels, class_of))
        for part, (images, labels) in parts.items()
    }
    train = ready["train" if "train" in ready else ""]
    test = ready.get("test", train)
    if test is train and len(train.images) == len(train.labels):  # else `Dataset` refuses it
        train, test = hold_out(train, fraction=0.2, seed=0)
        notice = "; ".join(filter(None, (notice, "a stratified fifth is the test split")))
    names = tuple(dict.fromkeys(class_of.values()))
    name = name.encode("utf-8", "replace").decode()  # a file's name may be any bytes
    validation = ready.get("val")
    return Dataset(name, train, test, names, origin, notice, validation)


def _classes_of(name: str, labels: np.ndarray) -> dict[int, str]:
    values, counts = np.unique(labels, return_counts=True)
    if len(values) < 2 or counts.min() < 2:
        lone = values[counts.argmin()] if len(values) else "none"
        why = f"{len(values)} classes, and label {lone} occurs {counts.min(initial=9)} times"
        fix = "pass at least two classes with at least two images each"
        raise DataError(f"{name} labels", why, fix=fix)
    return {int(value): str(value) for value in values}


def _numbered(what: str, labels: np.ndarray, class_of: Mapping[int, str]) -> np.ndarray:
    """The index of each label's class."""
    values = np.array(sorted(class_of))
    at = np.minimum(np.searchsorted(values, labels), len(values) - 1)
    if (unknown := labels[values[at] != labels]).size:
        why = f"label {unknown[0]} is none of the {len(values)} classes"
        raise DataError(what, why, fix="check that labels and images belong together")
    names = list(dict.fromkeys(class_of.values()))
    numbers = np.array([names.index(class_of[int(value)]) for value in values], np.int32)
    return numbers[at]
