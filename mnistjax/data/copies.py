"""Changed copies of images, always the same ones: an epoch sees one of each, the next another."""

import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, Integer, UInt8

from mnistjax.data.augment import Augmentation
from mnistjax.data.batches import IMPLEMENTATION
from mnistjax.data.dataset import Split
from mnistjax.data.lazy_images import LazyImages, origin, pixels_sha256
from mnistjax.errors import DataError

STREAM = 0xC0B1E5  # of the keys: no copy is drawn from the bits that order or augment a step


class Changed(LazyImages):
    """Images [n, height, width, channels] as `augment` changes them, for copy number `copy`.

    The key of an image is that of (`copy`, its row), whatever rows are read with it and whichever
    seed trains on them: so what is made of them can be kept, for every seed.

    >>> images = np.arange(32, dtype=np.uint8).reshape(2, 4, 4, 1)
    >>> changed = Changed(images, Augmentation(flip=1.0), copy=1)
    >>> changed[1].tolist() == changed[:][1].tolist() == images[1, :, ::-1].tolist()
    True
    """

    def __init__(self, base: Any, augment: Augmentation, *, copy: int) -> None:
        self.base, self.augment, self.copy = base, augment, copy
        self.shape, self.dtype, self.origin = base.shape, base.dtype, origin(base)
        said = f"{pixels_sha256(base)} {augment!r} copy {copy} by {IMPLEMENTATION}"
        self.sha256 = hashlib.sha256(said.encode()).hexdigest()

    def __getitem__(self, index: Any) -> UInt8[np.ndarray, "*n h w c"]:
        rows = np.arange(len(self))[index]
        flat = np.atleast_1d(rows)
        keys = _keys(self.copy, jnp.asarray(flat, jnp.uint32))
        changed = np.asarray(self.augment(keys, jnp.asarray(self.base[flat])))
        return changed.reshape(*rows.shape, *self.shape[1:])


@jax.jit
def _keys(copy: Integer[Array, ""] | int, rows: Integer[Array, " n"]) -> Array:
    of_copy = jax.random.fold_in(jax.random.key(STREAM, impl=IMPLEMENTATION), copy)
    return jax.vmap(lambda row: jax.random.fold_in(of_copy, row))(rows)


class Copies(LazyImages):
    """All rows of several arrays of one shape in turn: the copies of the same examples.

    `fit` takes one copy of each in an epoch, every one within as many epochs as there are copies.

    >>> copies = Copies([np.zeros((3, 2, 2, 1), np.uint8), np.ones((3, 2, 2, 1), np.uint8)])
    >>> copies.shape, copies[[0, 3]][:, 0, 0, 0].tolist()
    ((6, 2, 2, 1), [0, 1])
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts, first = parts, parts[0]
        if any((part.shape, part.dtype) != (first.shape, first.dtype) for part in parts):
            raise DataError("copies of images", "differ in shape", fix="give as many of each")
        self.shape = (len(parts) * len(first), *first.shape[1:])
        self.dtype, self.origin = first.dtype, origin(first)

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = np.arange(len(self))[index]
        copy, row = np.divmod(np.atleast_1d(rows), len(self.parts[0]))
        taken = np.empty((len(row), *self.shape[1:]), self.dtype)
        for number, part in enumerate(self.parts):
            of_it = copy == number
            if of_it.any():
                taken[of_it] = part[row[of_it]]
        return taken.reshape(*rows.shape, *self.shape[1:])


def copies_in(images: Any) -> int:
    """How many copies of the same examples `images` hold.

    >>> copies_in(np.zeros((6, 2, 2, 1))), copies_in(Copies([np.zeros((3, 2, 2, 1))] * 2))
    (1, 2)
    """
    return len(images.parts) if isinstance(images, Copies) else 1


def examples_in(split: Split) -> int:
    """How many examples an epoch of `split` has: of copies one each."""
    return len(split.labels) // copies_in(split.images)


def changed_copies(examples: Split, augment: Augmentation | None, copies: int) -> list[Split]:
    """The `examples` changed by `augment`: one fewer than `copies`, as which they count themselves.

    >>> two = Split(np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.int32))
    >>> len(changed_copies(two, Augmentation(flip=0.5), 4)), len(changed_copies(two, None, 4))
    (3, 0)
    """
    if augment is None:
        return []
    changed: list[Any] = [Changed(examples.images, augment, copy=c) for c in range(1, copies)]
    return [examples._replace(images=images) for images in changed]


def join(copies: Sequence[Split]) -> Split:
    """The copies of the same examples as one split, for `fit`; a single one as it is."""
    if len(copies) == 1:
        return copies[0]
    images: Any = Copies([copy.images for copy in copies])
    return Split(images, np.concatenate([copy.labels for copy in copies]))


def rows_of_copies(
    order: Int32[Array, "steps batch"], epoch: int, *, count: int, copies: int
) -> Int32[Array, "steps batch"]:
    """The rows of `copies` of `count` examples that epoch number `epoch` sees in `order`.

    Of example i it is copy (i + epoch) mod `copies`. Padding stays what is no row.

    >>> order = jnp.array([[2, 0], [1, 3]])  # 3 examples, and 3 for padding
    >>> [rows_of_copies(order, epoch, count=3, copies=2).tolist() for epoch in (0, 1)]
    [[[2, 0], [4, 6]], [[5, 3], [1, 6]]]
    """
    if copies == 1:
        return order
    place = np.asarray(order)
    rows = (place + epoch) % copies * count + place
    return jnp.asarray(np.where(place < count, rows, copies * count), jnp.int32)
