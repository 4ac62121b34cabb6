"""Examples from anything with `__len__` and `__getitem__`: lists, grain, TFDS, torch."""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mnistjax.data.lazy_images import PART, LazyImages
from mnistjax.data.memory import LEAST, nbytes
from mnistjax.errors import DataError

WORKERS = 8  # threads that wait for a disk or decode, which releases Python's lock
MOST = 2**31 - 2  # the order of examples is int32


@runtime_checkable
class Source(Protocol):
    """Examples by number, each a pair (image, label) or a mapping of "image" and "label".

    The protocol of grain's random access: a list, a `grain.MapDataset`, a TFDS `as_data_source`.
    Several threads read it at once, and an example must be the same each time it is read.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class SourceImages(LazyImages):
    """The images of a source [n, height, width, channels], read by several threads.

    `sha256` is `pixels_sha256`, made when the labels were read.
    """

    origin = "their source"

    def __init__(self, source: Source, shape: tuple[int, ...]) -> None:
        self.source, self.shape, self.dtype = source, shape, np.dtype(np.uint8)

    def __getitem__(self, index: Any) -> np.ndarray:
        numbers = np.arange(len(self))[index] if isinstance(index, slice) else np.asarray(index)
        if numbers.dtype == bool:
            numbers = np.flatnonzero(numbers)
        numbers = np.where(numbers < 0, numbers + len(self), numbers)
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"{index} of {len(self)} images")
        rows, _ = self.examples(numbers.ravel())
        return rows.reshape(*numbers.shape, *self.shape[1:])

    def examples(self, numbers: np.ndarray) -> tuple[np.ndarray, list[Any]]:
        """Images and labels in the order of `numbers`."""
        images, labels = np.empty((len(numbers), *self.shape[1:]), np.uint8), [None] * len(numbers)

        def read(places: np.ndarray) -> None:
            for place in places.tolist():
                number = int(numbers[place])
                image, labels[place] = _example(self.source, number)
                if image.shape != self.shape[1:]:
                    why = f"is of shape {sizes(image.shape)}, the first one {sizes(self.shape[1:])}"
                    raise DataError(f"image {number}", why, fix="make all images of one size")
                images[place] = image

        with ThreadPoolExecutor(WORKERS, thread_name_prefix="mnistjax source") as pool:
            portions = np.array_split(np.arange(len(numbers)), max(WORKERS, len(numbers) // 64))
            for _ in pool.map(read, portions):  # small ones, so that Ctrl-C is soon heard
                pass  # an error of a thread comes out here
        return images, labels


def read_source(source: Source) -> tuple[Any, np.ndarray]:
    """Images and labels of `source`, every example read once; int32 of labels that are integers.

    Images of up to 1 GiB come as an array, more as `SourceImages` of uint8, read once more
    wherever they are wanted. Grey images [height, width] get their one channel. Raises
    `DataError` for images of other types or of several shapes, and for labels that make no array.

    >>> images, labels = read_source([(np.zeros((2, 2), np.uint8), 7)] * 3)
    >>> images.shape, labels
    ((3, 2, 2, 1), array([7, 7, 7], dtype=int32))
    """
    count = _count(source)
    lazy = SourceImages(source, (count, *_example(source, 0)[0].shape))
    whole = np.empty(lazy.shape, np.uint8) if nbytes(lazy) <= LEAST else None
    digest = hashlib.sha256(repr((lazy.shape, lazy.dtype.str)).encode())
    labels, at_once = [], max(1, PART * count // max(1, nbytes(lazy)))
    for start in range(0, count, at_once):
        images, more = lazy.examples(np.arange(start, min(start + at_once, count)))
        labels += more
        if whole is None:
            digest.update(images.data)
        else:
            whole[start : start + len(images)] = images
    lazy.sha256 = digest.hexdigest()
    return lazy if whole is None else whole, _as_labels(labels)


def _count(source: Source) -> int:
    if not 0 < len(source) <= MOST:
        fix = "pass at least one" if not len(source) else "leave out what repeats them"
        raise DataError("the source", f"holds {len(source):,} examples", fix=fix)
    return len(source)


def _example(source: Source, number: int) -> tuple[np.ndarray, Any]:
    """Image [height, width, channels] of uint8 and label of one example."""
    try:
        example = source[number]
    except Exception as error:
        error.add_note(f"while reading example {number} of the source")
        raise
    if isinstance(example, Mapping) and {"image", "label"} <= example.keys():
        image, label = example["image"], example["label"]
    elif isinstance(example, Sequence) and len(example) == 2:
        image, label = example
    else:
        why = f"is no pair and no mapping of image and label, but {type(example).__name__}"
        fix = "pass pairs (image, label), or `Split(images, labels)`"
        raise DataError(f"example {number}", why, fix=fix)
    image = np.asarray(image)
    if image.dtype != np.uint8:
        why = f"is of {image.dtype}, not of uint8 pixels 0..255"
        raise DataError(f"image {number}", why, fix="pass the pixels as they were stored")
    if image.ndim not in (2, 3):
        why = f"is of shape {sizes(image.shape)}, not height x width x channels"
        raise DataError(f"image {number}", why, fix="pass one image an example")
    return image if image.ndim == 3 else image[..., None], label


def _as_labels(labels: list[Any]) -> np.ndarray:
    try:
        array = np.asarray(labels)
    except ValueError as error:
        fix = "make all labels of one shape"
        raise DataError("labels of the source", str(error), fix=fix) from error
    if array.dtype.kind not in "biuf":
        why = f"are {type(labels[0]).__name__}, not numbers"
        raise DataError("labels of the source", why, fix="number the classes from 0")
    if array.dtype.kind in "iu" and np.array_equal(array, array.astype(np.int32)):
        return array.astype(np.int32)
    return array


def sizes(shape: tuple[int, ...]) -> str:
    """`shape` in words.

    >>> sizes((28, 28, 1))
    '28x28x1'
    """
    return "x".join(map(str, shape))
