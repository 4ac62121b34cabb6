"""What a classifier gets right and wrong, class by class and image by image."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mnistjax.data.dataset import Dataset


class ClassScores(NamedTuple):
    """One class: shares in 0..1, and the number of its images."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


def confusion(
    logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]
) -> Int[np.ndarray, "classes classes"]:
    """How often each class (rows) was taken for each class (columns).

    >>> confusion(np.array([[1.0, 0], [1, 0], [0, 1]]), np.array([0, 1, 1])).tolist()
    [[1, 0], [1, 1]]
    """
    count = logits.shape[1]
    pairs = np.bincount(labels * count + logits.argmax(axis=1), minlength=count * count)
    return pairs.reshape(count, count)


def by_class(
    logits: Float[np.ndarray, "n classes"],
    labels: Int[np.ndarray, " n"],
    class_names: tuple[str, ...],
) -> list[ClassScores]:
    """Precision, recall, F1 and support of every class; 0 where one is not defined."""
    matrix = confusion(logits, labels)
    right, answers, support = matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)
    precision = right / np.maximum(answers, 1)
    recall = right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(answers + support, 1)
    columns = (column.tolist() for column in (precision, recall, f1, support))
    return [ClassScores(*row) for row in zip(class_names, *columns, strict=True)]


def mean_recall(scores: Sequence[ClassScores]) -> float:
    """Balanced accuracy: the mean of the recalls of the classes that have images.

    >>> mean_recall([ClassScores("a", 1, 1.0, 1, 9), ClassScores("b", 0, 0.5, 0, 2)])
    0.75
    """
    return float(np.mean([row.recall for row in scores if row.support]))


def write_predictions(path: Path, data: Dataset, logits: Float[np.ndarray, "n classes"]) -> None:
    """A line for each test file: its name, the truth, the answer, and every class's probability."""
    shares, names = probabilities(logits), data.class_names
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "truth", "answer", *names])
        for name, label, row in zip(data.test_files, data.test.labels, shares, strict=True):
            numbers = [f"{share:.6f}" for share in row]
            table.writerow([name, names[label], names[int(row.argmax())], *numbers])


def probabilities(logits: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
    """Softmax that cannot overflow."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def most_wrong(
    logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"], *, count: int = 25
) -> Int[np.ndarray, " k"]:
    """Indices of the `count` examples with the highest cross-entropy, highest first.

    >>> most_wrong(np.array([[9.0, 0], [0, 9], [1, 0]]), np.array([0, 0, 0]), count=2).tolist()
    [1, 2]
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    of_truth = np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
    losses = np.log(np.exp(shifted).sum(axis=1)) - of_truth
    return np.argsort(-losses, kind="stable")[:count]
