"""Which epoch of a run is the best: by its validation, never by the test set."""

from collections.abc import Callable
from typing import Any

from mnistjax.errors import StorageError


def by_loss(loss: float, accuracy: float) -> float:
    """The usual score of an epoch: the lower its validation loss, the better."""
    return -loss


def by_accuracy(loss: float, accuracy: float) -> float:
    """For losses that trained with smoothed labels distort; between equals the loss decides."""
    return accuracy - 1e-6 * loss


def best_epoch(
    epochs: list[dict[str, Any]], score: Callable[[float, float], float] = by_loss
) -> dict[str, Any]:
    """The epoch row with the best validation; of equals the later, as checkpoints keep it.

    Raises `StorageError` where there is none: a damaged metrics.jsonl.

    >>> rows = [{"epoch": n, "val_loss": 0.2, "val_accuracy": 0.9} for n in (1, 2)]
    >>> best_epoch(rows)["epoch"]
    2
    """
    if not epochs:
        fix = "start anew with another `directory`"
        raise StorageError("metrics.jsonl", "has no row of an epoch left", fix=fix)
    return max(reversed(epochs), key=lambda row: score(row["val_loss"], row["val_accuracy"]))
