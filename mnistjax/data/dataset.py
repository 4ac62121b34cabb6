"""What every source of images becomes: uint8 NHWC images, int32 labels, class names."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from mnistjax.errors import DataError


class Split(NamedTuple):
    """Images with their labels: [n, height, width, channels] and int32 [n].

    Every source gives uint8; what a frozen part makes of images is float32. A loss of your own may
    want labels of another kind: shares of classes, several yes and no, a number.
    """

    images: Shaped[np.ndarray, "n height width channels"]
    labels: Shaped[np.ndarray, "n *label"]

    def images_sha256(self) -> str:
        """Digest of the pixels in their order."""
        digest = hashlib.sha256(repr((self.images.shape, self.images.dtype.str)).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        return digest.hexdigest()

    def take(self, indices: np.ndarray) -> "Split":
        """The examples at `indices`, in that order."""
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Dataset:
    """A training and a test split with the names of the classes.

    Raises `DataError` for labels outside `0..len(class_names) - 1` (cross-entropy would take
    them without a word), for counts that disagree, and for an empty split.

    >>> two = Split(np.zeros((2, 28, 28, 1), np.uint8), np.array([0, 1], np.int32))
    >>> Dataset("toy", train=two, test=two, class_names=("no", "yes"), origin="made up").image_shape
    (28, 28, 1)
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    origin: str
    """One phrase for the reader of a report: where the images came from."""
    notice: str = ""
    """Set when `auto` fell back to another data set: shown loudly wherever results are."""

    def __post_init__(self) -> None:
        for part, (images, labels) in {"train": self.train, "test": self.test}.items():
            what = f"{self.name} {part} split"
            if len(images) != len(labels) or len(labels) == 0:
                why = f"{len(images)} images but {len(labels)} labels"
                raise DataError(what, why, fix="get the files again from their source")
            low, high, classes = int(labels.min()), int(labels.max()), len(self.class_names)
            if low < 0 or high >= classes:
                why = f"labels run from {low} to {high}, but there are {classes} classes"
                raise DataError(what, why, fix="check that labels and images belong together")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        return self.train.images.shape[1:]  # type: ignore[return-value]

    @cached_property
    def sha256(self) -> str:
        """Digest of all pixels and labels, train then test; 55 MB of MNIST take 0.1 s."""
        digest = hashlib.sha256()
        for array in (*self.train, *self.test):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()
