"""Held-out examples: seeded, and with the same share of every class."""

from collections.abc import Sequence

import numpy as np

from mnistjax.data.dataset import Dataset, Split
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
    from sklearn.model_selection import train_test_split  # 1 s of import

    everything = np.arange(len(labels))
    try:
        kept, held = train_test_split(
            everything, test_size=share, random_state=seed, stratify=labels
        )
    except ValueError:  # too few for its rounding
        kept, held = everything, everything[:0]
    classes = np.unique(labels)
    if set(labels[held]) == set(classes) and (not leave or set(labels[kept]) == set(classes)):
        return np.sort(held)
    random = np.random.default_rng(seed)
    counts = np.array([(labels == c).sum() for c in classes])
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
