"""Held-out examples: seeded, and with the same share of every class."""

import numpy as np

from mnistjax.data.dataset import Split
from mnistjax.errors import DataError


def hold_out(split: Split, *, fraction: float, seed: int) -> tuple[Split, Split]:
    """Part `split` into (kept, held out), stratified by label.

    Equals scikit-learn's `train_test_split(..., stratify=labels)` on the indices, each part in
    its original order. `fraction` (0 < fraction < 1) is the share held out.
    Raises `DataError` where a class has fewer than two examples or a part would miss a class.

    >>> labels = np.repeat(np.arange(2, dtype=np.int32), 50)
    >>> kept, held = hold_out(
    ...     Split(np.zeros((100, 8, 8, 1), np.uint8), labels), fraction=0.1, seed=0)
    >>> len(kept.labels), np.bincount(held.labels).tolist()
    (90, [5, 5])
    """
    return _part(split, held_out=fraction, seed=seed)


def part_off(split: Split, *, fraction: float, seed: int) -> tuple[Split, Split | None]:
    """`hold_out`, or all of `split` and None where `fraction` is 0.

    >>> split = Split(np.zeros((2, 8, 8, 1), np.uint8), np.zeros(2, np.int32))
    >>> part_off(split, fraction=0.0, seed=0)[1] is None
    True
    """
    return hold_out(split, fraction=fraction, seed=seed) if fraction else (split, None)


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
    _, sample = _part(split, held_out=size, seed=seed)
    return sample


def _part(split: Split, *, held_out: float | int, seed: int) -> tuple[Split, Split]:
    from sklearn.model_selection import train_test_split  # 1 s of import

    try:
        kept, held = train_test_split(
            np.arange(len(split.labels)),
            test_size=held_out,
            random_state=seed,
            stratify=split.labels,
        )
    except ValueError as error:
        fix = "use more examples, or drop classes that have fewer than two"
        raise DataError("stratified split", str(error), fix=fix) from error
    return split.take(np.sort(kept)), split.take(np.sort(held))
