"""Metrics as sums and counts: merged freely, divided once."""

import operator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float32, Int32


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Metrics:
    """Sum of losses, number of correct answers, number of examples.

    Scalars: jax arrays as a step returns them, or plain numbers on the host.

    >>> total = Metrics.zero() + Metrics(6.0, 8, 10) + Metrics(3.0, 5, 5)
    >>> total.loss, round(total.accuracy, 4)
    (0.6, 0.8667)
    """

    loss_sum: Array | float
    correct: Array | int
    count: Array | int

    @staticmethod
    def zero() -> "Metrics":
        """No examples yet, on the host."""
        return Metrics(0.0, 0, 0)

    def __add__(self, other: "Metrics") -> "Metrics":
        return jax.tree.map(operator.add, self, other)

    @property
    def loss(self) -> float:
        """Mean loss."""
        return float(self.loss_sum) / float(self.count)

    @property
    def accuracy(self) -> float:
        """Share of correct answers, 0..1."""
        return float(self.correct) / float(self.count)

    def on_host(self) -> "Metrics":
        """Plain numbers; waits for the device."""
        return Metrics(float(self.loss_sum), int(self.correct), int(self.count))


def widen(logits: Array) -> Array:
    """Logits of 16 bits as float32, for a loss that keeps its digits; wider ones as they are."""
    return logits.astype(jnp.float32) if logits.dtype.itemsize < 4 else logits


def metrics_of(
    logits: Float32[Array, "batch classes"],
    labels: Int32[Array, " batch"],
    mask: Bool[Array, " batch"],
) -> Metrics:
    """Softmax cross-entropy and correct answers, summed over the rows where `mask` is True."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    correct = jnp.argmax(logits, axis=-1) == labels
    return Metrics(
        jnp.sum(jnp.where(mask, losses, 0)),
        jnp.sum(correct & mask, dtype=jnp.int32),
        jnp.sum(mask, dtype=jnp.int32),
    )
