"""Images that are read when they are wanted: rows of a memory map, or of a source."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from mnistjax.data.memory import fits, nbytes

PART = 2**26  # bytes read at a time where all are


class LazyImages(ABC):
    """What stands for an array [n, height, width, channels] whose rows are read by indexing."""

    shape: tuple[int, ...]
    dtype: np.dtype
    sha256 = ""
    """`pixels_sha256`, where it is known."""
    origin: str
    """Where rows come from, in words."""

    @abstractmethod
    def __getitem__(self, index: Any) -> np.ndarray:
        """The rows at `index`: a number, a slice, a mask or an array of numbers."""

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)  # all of them: who asks has the room


class Rows(LazyImages):
    """The rows of `base` at `indices`, still to be read.

    >>> rows = Rows(np.arange(5)[:, None], np.array([4, 0, 2]))
    >>> rows.shape, rows[1:].ravel().tolist()
    ((3, 1), [0, 2])
    """

    def __init__(self, base: Any, indices: np.ndarray) -> None:
        self.base, self.indices = base, np.asarray(indices)
        self.shape, self.dtype = (len(self.indices), *base.shape[1:]), base.dtype
        self.origin = origin(base)

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.base[self.indices[index]]


def take_rows(images: Any, indices: np.ndarray) -> Any:
    """The rows of `images` at `indices`: at once where they fit, else still to be read."""
    rows = Rows(images, indices)
    return rows[:] if fits(nbytes(rows)) else rows


def parts(images: Any) -> Iterator[np.ndarray]:
    """`images` in turn, as many at a time as memory does not notice; an array as it is."""
    if not isinstance(images, LazyImages):
        yield images
        return
    rows = max(1, PART * len(images) // max(1, nbytes(images)))
    for start in range(0, len(images), rows):
        yield images[start : start + rows]


def pixels_sha256(images: Any) -> str:
    """Digest of shape, dtype and all pixels in their order; read once unless it is known."""
    if isinstance(images, LazyImages) and images.sha256:
        return images.sha256
    digest = hashlib.sha256(repr((images.shape, images.dtype.str)).encode())
    for part in parts(images):
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def origin(images: Any) -> str:
    """Where rows of `images` come from, in words.

    >>> origin(np.zeros(3))
    "the host's memory"
    """
    if isinstance(images, LazyImages):
        return images.origin
    return "the disk" if isinstance(images, np.memmap) else "the host's memory"
