"""Held-out examples: seeded, and with the same share of every class."""

import math
from collections.abc import Sequence

import numpy as np

from mnistjax.data.dataset import Dataset, Split
from mnistjax.data.stratified import stratified
from mnistjax.errors import DataError


def hold_out(
    split: Split, *, fraction: float, seed: int, class_names: Sequence[str] | None = None
) -> tuple[Split, Split]:
    """Part `split` into (kept, held out), stratified by label, each with one of every class.

    Equals scikit-learn's `train_test_split(..., stratify=labels)` on the indices where that gives
    each part one of every class, each part in its original order. `fraction` (0 < fraction < 1) is
    the share held out. Raises `DataError` where a class has fewer than two examples, by its name.

    >>> labels = np.repeat(np.arange(2, dtype=np.int32), 50)
    >>> kept, held = hold_out(
    ...     Split(np.zeros((100, 8, 8, 1), np.uint8), labels), fraction=0.1, seed=0)
    >>> len(kept.labels), np.bincount(held.labels).tolist()
    (90, [5, 5])
    """
    counts = np.bincount(split.labels)
    if 1 in counts:
        label = int(np.flatnonzero(counts == 1)[0])
        name = class_names[label] if class_names else label
        why = "has 1 example, and what is held out needs one of its own"
        fix = "add examples, or pass `validation=0` and a test split of your own"
        raise DataError(f"class {name}", why, fix=fix)
    held = _sample(split.labels, fraction, seed, leave=1)
    return split.take(np.setdiff1d(np.arange(len(split.labels)), held)), split.take(held)


def part_off(
    split: Split, *, fraction: float, seed: int, class_names: Sequence[str] | None = None
) -> tuple[Split, Split | None]:
    """`hold_out`, or all of `split` and None where `fraction` is 0.

    >>> split = Split(np.zeros((2, 8, 8, 1), np.uint8), np.zeros(2, np.int32))
    >>> part_off(split, fraction=0.0, seed=0)[1] is None
    True
    """
    if not fraction:
        return split, None
    return hold_out(split, fraction=fraction, seed=seed, class_names=class_names)


def part_validation(
    data: Dataset, examples: Split, *, fraction: float, seed: int
) -> tuple[Split, Split | None]:
    """(training, validation) of `examples` of `data`: its own validation, or `part_off`."""
    if data.validation is not None:
        return examples, data.validation
    return part_off(examples, fraction=fraction, seed=seed, class_names=data.class_names)


def subset(split: Split, *, size: int, seed: int) -> Split:
    """A stratified sample of `size` examples, in their original order; all of them if that many.

    Raises `DataError` if `size` is larger than the split or smaller than the number of classes.
    """
    count = len(split.labels)
    if size == count:
        return split
    if size > count:
        fix = f"pass `size={count}` or less"
        raise DataError(f"`size` {size}", f"there are only {count} examples", fix=fix)
    if size < (classes := len(np.unique(split.labels))):
        fix = f"pass `size={classes}` or more"
        raise DataError(f"`size` {size}", f"there are {classes} classes", fix=fix)
    return split.take(_sample(split.labels, size, seed, leave=0))


def _sample(labels: np.ndarray, share: float | int, seed: int, *, leave: int) -> np.ndarray:
    """Sorted indices of a stratified sample: one of every class at least, `leave` left of each."""
    count = share if isinstance(share, int) else math.ceil(share * len(labels))
    held = stratified(labels, count, seed=seed)
    if held is not None and _each_has_one(labels, held, leave=leave):
        return held
    random = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    size = share if isinstance(share, int) else share * len(labels)
    take = np.clip(np.rint(counts * size / len(labels)).astype(int), 1, counts - leave)
    while isinstance(share, int) and (over := take.sum() - share):
        # One more or less where rounding has gone furthest the other way.
        error = (take - counts * size / len(labels)) * np.sign(over)
        movable = (take > 1) if over > 0 else (take < counts)
        take[np.argmax(np.where(movable, error, -np.inf))] -= np.sign(over)
    parts = [
        random.choice(np.flatnonzero(labels == c), n, replace=False)
        for c, n in zip(classes, take, strict=True)
    ]
    return np.sort(np.concatenate(parts))


def _each_has_one(labels: np.ndarray, held: np.ndarray, *, leave: int) -> bool:
    counts, of_held = np.bincount(labels), np.bincount(labels[held], minlength=labels.max() + 1)
    there = counts > 0
    return bool(of_held[there].all() and (counts - of_held >= leave)[there].all())
