"""Whether probabilities are what they say: reliability, ECE, and a temperature that mends it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import log_softmax

from mnistjax.errors import DataError, UsageError

BINS = 15
COLDEST, HOTTEST = 0.05, 20.0  # where a temperature is looked for


class Reliability(NamedTuple):
    """Answers in bins of equal width by the probability of the class answered, 0..1.

    Guo, Pleiss, Sun and Weinberger 2017, arXiv:1706.04599. Empty bins have NaN.
    """

    confidence: Float[np.ndarray, " bins"]
    """Mean probability of each bin's answers."""
    accuracy: Float[np.ndarray, " bins"]
    """Share of them that are right."""
    counts: Int[np.ndarray, " bins"]

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean distance of the two, by the number of answers."""
        apart = np.abs(self.accuracy - self.confidence)
        return float(np.nansum(apart * self.counts) / self.counts.sum())


def reliability(
    probabilities: Float[np.ndarray, "n classes"],
    labels: Int[np.ndarray, " n"],
    *,
    bins: int = BINS,
) -> Reliability:
    """How often answers of each confidence are right. A bin holds its upper end, as (0.2, 0.3].

    >>> half = np.array([[0.8, 0.2], [0.8, 0.2]])
    >>> round(reliability(half, np.array([0, 1])).ece, 6)
    0.3
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            np.bincount(place, confidence, bins) / count,
            np.bincount(place, right, bins) / count,
            count,
        )


def negative_log_likelihood(
    logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"], temperature: float = 1.0
) -> float:
    """Mean cross-entropy of `logits / temperature`, in nats.

    >>> round(negative_log_likelihood(np.zeros((1, 2)), np.array([0])), 4)
    0.6931
    """
    shares = log_softmax(logits.astype(np.float64) / temperature, axis=1)
    return float(-shares[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]) -> float:
    """The temperature that makes `logits / temperature` likeliest; answers stay what they are.

    Fit it on held-out examples, never on those that are then scored (Guo et al. 2017). It lies in
    0.05 to 20. Raises `DataError` where every answer is right, so that no temperature is best.

    >>> sure = np.array([[4.0, 0], [4, 0], [4, 0], [4, 0]])
    >>> round(fit_temperature(sure, np.array([0, 0, 0, 1])), 3)  # log(3): three of four are right
    3.641
    """
    from scipy.optimize import minimize_scalar  # 0.2 s that a wrong flag need not wait for

    if (logits.argmax(axis=1) == labels).all():
        why = f"all {len(labels):,} answers are right, so that surer is always likelier"
        raise DataError("held-out examples", why, fix="hold out more of them")

    def at(log: float) -> float:
        return negative_log_likelihood(logits, labels, float(np.exp(log)))

    found = minimize_scalar(
        at, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(found.x))


def check_temperature(temperature: float) -> float:
    """`temperature`, or `UsageError` if logits cannot be divided by it."""
    if not (np.isfinite(temperature) and temperature > 0):
        why = "must be a positive number"
        raise UsageError(f"`temperature` {temperature}", why, fix="pass `temperature=1`")
    return temperature
