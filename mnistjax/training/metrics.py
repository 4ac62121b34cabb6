"""Metrics as sums and counts: merged freely, divided once."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from mnistjax.errors import UsageError
from mnistjax.training.losses import LossFn, cross_entropy, reported


def mean(total: np.ndarray, count: int) -> float:
    """The usual value of a metric: what was summed, an example."""
    return float(total) / count


class Metric(NamedTuple):
    """A figure beside loss and accuracy: `of(logits, labels)`, [batch, ...], is summed over examples.

    `value(sum, count)` makes the figure of the sum, on the host: by default the mean.
    """  # noqa: E501

    of: Callable[[Any, Any], Array]
    value: Callable[[np.ndarray, int], float] = mean


def top_k(k: int) -> Metric:
    """The share of examples whose class is among the `k` highest logits; of equals all count.

    >>> logits = jnp.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    >>> top_k(2).of(logits, jnp.array([1, 2])).tolist()
    [True, False]
    """

    def of(logits: Array, labels: Array) -> Array:
        own = jnp.take_along_axis(logits, labels[:, None], axis=-1)
        return (logits > own).sum(-1) < k

    return Metric(of)


def balanced_accuracy() -> Metric:
    """The mean over classes of the share of each that is right; classes without examples left out.

    >>> metric, logits = balanced_accuracy(), jnp.array([[1.0, 0.0]] * 4)
    >>> metric.value(np.asarray(metric.of(logits, jnp.array([0, 0, 0, 1])).sum(0)), 4)
    0.5
    """

    def of(logits: Array, labels: Array) -> Array:
        there = jax.nn.one_hot(labels, logits.shape[-1], dtype=jnp.bool_)
        right = (logits.argmax(-1) == labels)[:, None] & there
        return jnp.stack([right, there], axis=1)

    def value(total: np.ndarray, count: int) -> float:
        right, there = total
        return float((right[there > 0] / there[there > 0]).mean())

    return Metric(of, value)


Kinds = tuple[tuple[str, Metric], ...]


def kinds_of(metrics: Mapping[str, Metric] | None) -> Kinds:
    """`metrics` as what can be compared and hashed; raise `UsageError` for a name that is taken."""
    for name in set(metrics or {}) & {"loss", "accuracy", "step", "epoch", "kind"}:
        raise UsageError("`metrics`", f"{name} has a meaning already", fix="call it otherwise")
    return tuple((metrics or {}).items())


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Metrics:
    """Sum of losses, number of correct answers, number of examples, and sums of more metrics.

    Scalars: jax arrays as a step returns them, or plain numbers on the host. `correct` is None
    where labels are no classes. `latest` is no sum: what the last step tells of itself
    (`training.latest`).

    >>> total = Metrics.zero() + Metrics(6.0, 8, 10) + Metrics(3.0, 5, 5)
    >>> total.loss, round(total.accuracy, 4)
    (0.6, 0.8667)
    """

    loss_sum: Array | np.ndarray | float
    correct: Array | np.ndarray | int | None
    count: Array | np.ndarray | int
    more: dict[str, Any] = field(default_factory=dict)
    kinds: Kinds = field(default=(), metadata={"static": True})
    latest: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def zero() -> "Metrics":
        """No examples yet, on the host."""
        return Metrics(0.0, 0, 0)

    def __add__(self, other: "Metrics") -> "Metrics":
        correct = None
        if self.correct is not None and other.correct is not None:
            correct = self.correct + other.correct
        more = {name: self.more.get(name, 0) + value for name, value in other.more.items()}
        return Metrics(
            self.loss_sum + other.loss_sum,
            correct,
            self.count + other.count,
            more or self.more,
            other.kinds or self.kinds,
            self.latest | other.latest,
        )

    @property
    def loss(self) -> float:
        """Mean loss; NaN of no examples."""
        return float(self.loss_sum) / float(self.count) if self.count else math.nan

    @property
    def accuracy(self) -> float:
        """Share of correct answers, 0..1; raise `UsageError` where labels are no classes."""
        if self.correct is None:
            why = "was not counted: labels are no classes"
            raise UsageError("accuracy", why, fix="read `loss`, or a metric of your own")
        return float(self.correct) / float(self.count) if self.count else math.nan

    @property
    def values(self) -> dict[str, float]:
        """Every mean by its name: the loss, the accuracy if there is one, and what was asked for.

        >>> Metrics(3.0, None, 2).values, Metrics.zero().values
        ({'loss': 1.5}, {})
        """
        if not self.count:
            return {}
        accuracy = {} if self.correct is None else {"accuracy": self.accuracy}
        more = {
            name: kind.value(np.asarray(self.more[name]), int(self.count))
            for name, kind in self.kinds
        }
        return {"loss": self.loss} | accuracy | more

    @property
    def told(self) -> dict[str, float | int]:
        """`latest`, without what is not finite: the gradient of a step that was skipped.

        >>> Metrics(1.0, 3, 4, latest={"grad_norm": math.nan, "skipped": 1}).told
        {'skipped': 1}
        """
        return {name: value for name, value in self.latest.items() if math.isfinite(value)}

    def on_host(self) -> "Metrics":
        """Plain numbers; waits for the device, once for all of them."""
        told = jax.device_get(self)
        correct = None if told.correct is None else int(told.correct)
        more = {name: np.asarray(value) for name, value in told.more.items()}
        latest = {name: np.asarray(value).item() for name, value in told.latest.items()}
        return Metrics(float(told.loss_sum), correct, int(told.count), more, self.kinds, latest)

    def each(self, count: int) -> "list[Metrics]":
        """Plain numbers of each of `count` steps, whose metrics are stacked if they are several.

        >>> stacked = Metrics(np.array([2.0, 4.0, 0.0]), None, np.array([2, 2, 0]))
        >>> [metrics.loss for metrics in stacked.each(2)]
        [1.0, 2.0]
        """
        told = jax.device_get(self)
        if not np.ndim(told.count):
            return [told.on_host()]
        return [jax.tree.map(lambda leaf, i=i: leaf[i, ...], told).on_host() for i in range(count)]


def widen(logits: Array) -> Array:
    """Logits of 16 bits as float32, for a loss that keeps its digits; wider ones as they are."""
    return logits.astype(jnp.float32) if logits.dtype.itemsize < 4 else logits


def metrics_of(
    logits: Float[Array, "batch *outputs"],
    labels: Shaped[Array, "batch *label"],
    mask: Bool[Array, " batch"],
    loss_fn: LossFn = cross_entropy,
    kinds: Kinds = (),
) -> Metrics:
    """What `loss_fn` is told by, correct answers and `kinds`, summed where `mask` is True."""
    told = reported(loss_fn)
    losses = told(logits, labels)
    correct = _correct(logits, labels, told)
    if correct is not None:
        correct = jnp.sum(correct & mask, dtype=jnp.int32)
    return Metrics(
        jnp.sum(jnp.where(mask, losses, 0)),
        correct,
        jnp.sum(mask, dtype=jnp.int32),
        {name: _sum(kind.of(logits, labels), mask) for name, kind in kinds},
        kinds,
    )


def _correct(logits: Array, labels: Array, told: LossFn) -> Array | None:
    """Whether each answer is right; None where there are no classes."""
    if labels.ndim == 1 and logits.ndim == 2 and jnp.issubdtype(labels.dtype, jnp.integer):
        return jnp.argmax(logits, axis=-1) == labels
    if told is cross_entropy and labels.shape == logits.shape:
        return jnp.argmax(logits, axis=-1) == jnp.argmax(labels, axis=-1)
    return None


def _sum(values: Array, mask: Array) -> Array:
    there = mask.reshape(-1, *[1] * (values.ndim - 1))
    values = jnp.where(there, values, jnp.zeros_like(values))
    exact = not jnp.issubdtype(values.dtype, jnp.inexact)
    return values.sum(0, dtype=jnp.int32 if exact else values.dtype)
