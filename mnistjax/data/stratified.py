"""A sample with the same share of every class: that of scikit-learn, without its import."""

import numpy as np
from jaxtyping import Int


def stratified(
    labels: Int[np.ndarray, " n"], count: int, *, seed: int
) -> Int[np.ndarray, " count"] | None:
    """Sorted indices of `count` examples; None where a class would have none, or has one.

    Those that scikit-learn's `train_test_split(..., test_size=count, stratify=labels)` holds out:
    runs are told apart by them. To import it takes 1.4 s, a fifth of a small run.

    >>> stratified(np.array([0, 0, 0, 0, 1, 1]), 3, seed=0).tolist()
    [0, 1, 5]
    """
    classes, which, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rest = len(labels) - count
    if counts.min() < 2 or min(count, rest) < len(classes):
        return None
    random = np.random.RandomState(seed)  # noqa: NPY002  whose numbers scikit-learn draws
    left = _shares(counts, rest, random)
    taken = _shares(counts - left, count, random)
    members = np.split(np.argsort(which, kind="stable"), np.cumsum(counts)[:-1])
    chosen = []
    for of_class, first, more in zip(members, left, taken, strict=True):
        mixed = of_class[random.permutation(len(of_class))]
        chosen.append(mixed[first : first + more])
    return np.sort(np.concatenate(chosen))


def _shares(counts: np.ndarray, size: int, random: np.random.RandomState) -> np.ndarray:
    """`size` in proportion to `counts`, rounded; of equal remainders chance takes some."""
    exact = counts / counts.sum() * size
    shares = np.floor(exact)
    remainders, missing = exact - shares, int(size - shares.sum())
    for remainder in np.unique(remainders)[::-1]:
        if not missing:
            break
        equal = np.flatnonzero(remainders == remainder)
        more = random.choice(equal, min(len(equal), missing), replace=False)
        shares[more] += 1
        missing -= len(more)
    return shares.astype(int)
