"""What several networks answer of the same images: their scores, their ensemble, their quarrels."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mnistjax.errors import StorageError
from mnistjax.inference.calibration import reliability
from mnistjax.report.scores import probabilities
from mnistjax.runs.result import TEST_LOGITS
from mnistjax.runs.run import Run


class Spread(NamedTuple):
    """A mean over n seeds, and how far it can be trusted."""

    mean: float
    sd: float
    """Sample standard deviation (n - 1); NaN of one."""
    low: float
    high: float
    """Where the mean of all seeds lies with 95 % (Student's t); NaN of one."""


def spread(values: Float[np.ndarray, " n"]) -> Spread:
    """Mean, sample standard deviation and 95 % interval of the mean, by Student's t.

    Student 1908, "The probable error of a mean".

    >>> spread(np.array([1.0, 2.0, 3.0]))
    Spread(mean=2.0, sd=1.0, low=-0.484..., high=4.484...)
    """
    from scipy.stats import t  # 0.4 s

    mean, count = float(values.mean()), len(values)
    if count < 2:
        return Spread(mean, float("nan"), float("nan"), float("nan"))
    sd = float(values.std(ddof=1))
    half = float(t.ppf(0.975, count - 1)) * sd / count**0.5
    return Spread(mean, sd, mean - half, mean + half)


@dataclass(frozen=True)
class Several:
    """The logits of several networks for the same labelled images."""

    logits: Float[np.ndarray, "members n classes"]
    labels: Int[np.ndarray, " n"]

    @cached_property
    def shares(self) -> Float[np.ndarray, "members n classes"]:
        """Every network's probabilities."""
        return np.stack([probabilities(one) for one in self.logits])

    @cached_property
    def answers(self) -> Int[np.ndarray, "members n"]:
        """Every network's likeliest class."""
        return self.logits.argmax(axis=-1)

    @property
    def accuracies(self) -> Float[np.ndarray, " members"]:
        """The share of images that each has right."""
        return (self.answers == self.labels).mean(axis=-1)

    @cached_property
    def eces(self) -> Float[np.ndarray, " members"]:
        """Each one's expected calibration error."""
        return np.array([reliability(one, self.labels).ece for one in self.shares])

    @cached_property
    def ensemble(self) -> Float[np.ndarray, "n classes"]:
        """The mean of their probabilities (Lakshminarayanan et al. 2017, arXiv:1612.01474)."""
        return self.shares.mean(axis=0)

    @property
    def right(self) -> Bool[np.ndarray, " n"]:
        """What the ensemble has right."""
        return self.ensemble.argmax(axis=-1) == self.labels

    @cached_property
    def disagreement(self) -> Float[np.ndarray, " n"]:
        """Of every image, the share of pairs of networks that answer it differently.

        >>> logits = np.eye(2)[[[0, 0], [0, 1], [0, 1]]]  # three networks, two images
        >>> Several(logits, np.array([0, 1])).disagreement.round(3).tolist()
        [0.0, 0.667]
        """
        members, _, classes = self.logits.shape
        votes = np.stack([(self.answers == label).sum(axis=0) for label in range(classes)])
        alike = (votes * (votes - 1)).sum(axis=0)
        return 1 - alike / max(members * (members - 1), 1) if members > 1 else 0.0 * alike


def several_of(runs: list[Run]) -> Several:
    """What finished `runs` of the same test images answered; `StorageError` if they are others."""
    found = [read_test_logits(run.directory) for run in runs]
    for run, (_, labels) in zip(runs, found, strict=True):
        if not np.array_equal(labels, found[0][1]):
            why = f"has other test images than {runs[0].directory}"
            raise StorageError(str(run.directory), why, fix="pass runs on the same data")
    return Several(np.stack([logits for logits, _ in found]), found[0][1])


def read_test_logits(
    directory: Path,
) -> tuple[Float[np.ndarray, "n classes"], Int[np.ndarray, " n"]]:
    """Logits and labels of a run's test images; raise `StorageError` if it has left none."""
    path = directory / TEST_LOGITS
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["logits"], file["labels"]
    except Exception as error:  # a damaged zip file makes NumPy raise nearly anything
        why = "there is none yet" if not path.exists() else str(error)
        raise StorageError(str(path), why, fix="let its run end with `resume=True`") from error
