"""Which epoch of a run is the best: by its validation, never by the test set."""

from collections.abc import Callable
from typing import Any

from mnistjax.errors import StorageError

Row = dict[str, Any]
Score = Callable[[Row], float]
"""Of an epoch's row in metrics.jsonl, with its `val_loss` and the like: the higher, the better."""


def by_loss(row: Row) -> float:
    """The usual score of an epoch: the lower its validation loss, the better."""
    return -row["val_loss"]


def by_accuracy(row: Row) -> float:
    """For losses that trained with smoothed labels distort; between equals the loss decides."""
    return row["val_accuracy"] - 1e-6 * row["val_loss"]


def last(row: Row) -> float:
    """Where nothing is held out, nothing can choose: the last epoch it is."""
    return float(row["step"])


def best_epoch(epochs: list[Row], score: Score = by_loss) -> Row:
    """The epoch row with the best score; of equals the later, as checkpoints keep it.

    Raises `StorageError` where there is none: a damaged metrics.jsonl.

    >>> rows = [{"epoch": n, "val_loss": 0.2} for n in (1, 2)]
    >>> best_epoch(rows)["epoch"]
    2
    """
    if not epochs:
        fix = "start anew with another `directory`"
        raise StorageError("metrics.jsonl", "has no row of an epoch left", fix=fix)
    return max(reversed(epochs), key=score)
