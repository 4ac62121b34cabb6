"""Training images whose labels look wrong: those that the trained network believes least."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from mnistjax.data.dataset import Dataset, Split
from mnistjax.report.figures import most_wrong_figure
from mnistjax.report.scores import most_wrong, probabilities

SHOWN, SHARE = 50, 0.02  # of the ranking: in the report, and (at least as many) in the table


class Suspects(NamedTuple):
    """Training examples, the most suspicious first, as many as are worth a look."""

    rows: Int[np.ndarray, " k"]
    """Their numbers among the examples that were scored."""
    logits: Float[np.ndarray, "k classes"]
    """What the network says of each."""


def find_suspects(
    logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]
) -> Suspects:
    """The examples with the highest loss: 2 % of them, and at least 50.

    The loss of its label is -log of the probability that the network gives it, and the length of
    its gradient by the logits grows with it: one ranking serves for both.

    >>> find_suspects(np.array([[9.0, 0], [0, 9], [1, 0]]), np.array([0, 0, 0])).rows.tolist()
    [1, 2, 0]
    """
    count = min(len(labels), max(SHOWN, round(SHARE * len(labels))))
    rows = most_wrong(logits, labels, count=count)
    return Suspects(rows, logits[rows])


def write_suspects(path: Path, suspects: Suspects, split: Split, data: Dataset) -> None:
    """A line for each of `split`: its number, label, the answer, and both probabilities."""
    names = data.class_names
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "answer", "label's probability", "answer's probability"])
        for row, shares in zip(suspects.rows, probabilities(suspects.logits), strict=True):
            label, answer = int(split.labels[row]), int(shares.argmax())
            numbers = f"{shares[label]:.6f}", f"{shares[answer]:.6f}"
            table.writerow([int(row), names[label], names[answer], *numbers])


def suspects_figure(suspects: Suspects, split: Split, data: Dataset) -> Figure:
    """The first 50, each with its label, the answer, and the answer's probability."""
    rows, names = suspects.rows[:SHOWN], data.class_names
    return most_wrong_figure(split.images[rows], split.labels[rows], suspects.logits[:SHOWN], names)
