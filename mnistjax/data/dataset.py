"""What every source of images becomes: uint8 NHWC images, int32 labels, class names."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Shaped

from mnistjax.data.lazy_images import LazyImages, parts, pixels_sha256, take_rows
from mnistjax.data.picture import Photos
from mnistjax.data.source import Source, read_source, sizes
from mnistjax.errors import DataError


class Split(NamedTuple):
    """Images with their labels: [n, height, width, channels] and int32 [n].

    Every source gives uint8; what a frozen part makes of images is float32. A loss of your own may
    want labels of another kind: shares of classes, several yes and no, a number. Images may be
    a memory map, or what reads its rows when they are wanted (`LazyImages`).
    """

    images: Shaped[np.ndarray, "n height width channels"]
    labels: Shaped[np.ndarray, "n *label"]

    def images_sha256(self) -> str:
        """Digest of the pixels in their order."""
        return pixels_sha256(self.images)

    def take(self, indices: np.ndarray) -> "Split":
        """The examples at `indices`, in that order; of more than fit, the images are read later."""
        return Split(take_rows(self.images, indices), self.labels[indices])


def as_split(examples: Split | Source) -> Split:
    """`examples` as they are, or the `Split` of a source (`read_source`).

    >>> as_split([{"image": np.zeros((2, 2, 1), np.uint8), "label": 3}]).labels
    array([3], dtype=int32)
    """
    return examples if isinstance(examples, Split) else Split(*read_source(examples))


# What a `Dataset` is made with; what it then has is a `Split`, and type checkers are told so.
if TYPE_CHECKING:
    Given = Split
else:
    Given = Split | Source


@dataclass(frozen=True)
class Dataset:
    """A training and a test split with the names of the classes.

    Either may be given as a source of examples (`as_split`).
    Raises `DataError` for labels outside `0..len(class_names) - 1` (cross-entropy would take
    them without a word), for counts that disagree, for an empty split, and for splits whose images
    differ in size.

    >>> two = Split(np.zeros((2, 28, 28, 1), np.uint8), np.array([0, 1], np.int32))
    >>> Dataset("toy", train=two, test=two, class_names=("no", "yes"), origin="made up").image_shape
    (28, 28, 1)
    """

    name: str
    train: Given
    test: Given
    class_names: tuple[str, ...]
    origin: str
    """One phrase for the reader of a report: where the images came from."""
    notice: str = ""
    """What was left out or chosen, or that `auto` fell back: shown loudly wherever results are."""
    validation: Split | None = None
    """Set where the source has one of its own; else a share of `train` is held out."""
    test_files: tuple[str, ...] = ()
    """Names of the files that the test images come from, where each has one."""
    photos: Photos | None = None
    """How its pictures were made from files of any size; None where they came as arrays."""
    enlarged_from: int | None = None
    """The side of its images before they were enlarged to what they are."""

    def __post_init__(self) -> None:
        given = ("train", "test") if self.validation is None else ("train", "test", "validation")
        for part in given:
            images, labels = split = as_split(getattr(self, part))
            object.__setattr__(self, part, split)
            what = f"{self.name} {part} split"
            if len(images) != len(labels) or len(labels) == 0:
                why = f"{len(images)} images but {len(labels)} labels"
                raise DataError(what, why, fix="get the files again from their source")
            low, high, classes = int(labels.min()), int(labels.max()), len(self.class_names)
            if low < 0 or high >= classes:
                why = f"labels run from {low} to {high}, but there are {classes} classes"
                raise DataError(what, why, fix="check that labels and images belong together")
        train, test = (split.images.shape[1:] for split in (self.train, self.test))
        if train != test:
            why = f"its images are {sizes(test)}, those of the training split {sizes(train)}"
            raise DataError(f"{self.name} test split", why, fix="make all images of one size")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        return self.train.images.shape[1:]  # type: ignore[return-value]

    @cached_property
    def sha256(self) -> str:
        """Digest of all pixels and labels, train then test; 55 MB of MNIST take 0.1 s.

        Of a source too large for an array its pixels' digest, so that none is read again.
        """
        digest = hashlib.sha256()
        for array in (*self.train, *self.test, *(self.validation or ())):
            digest.update(repr(array.shape).encode())
            if isinstance(array, LazyImages) and array.sha256:
                digest.update(array.sha256.encode())
                continue
            for part in parts(array):
                digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()
