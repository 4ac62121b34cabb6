"""What is minimised, per example: cross-entropy, or any function of logits and labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Shaped

from mnistjax.errors import DataError

LossFn = Callable[[Any, Any], Array]
"""`loss_fn(logits, labels) -> [batch]`, a loss for each example.

One with an attribute `reported`, another such function, is trained with itself and told, logged and
compared by that: what makes training better need not be what one wants to read.
"""


def cross_entropy(
    logits: Float[Array, "batch classes"], labels: Shaped[Array, "batch *classes"]
) -> Float[Array, " batch"]:
    """Softmax cross-entropy with class numbers [batch], or with a share of each class (mixup).

    Raises `DataError` for rows of another length: optax would stretch a column to every class.

    >>> logits = jnp.array([[0.0, 0.0]])
    >>> print(cross_entropy(logits, jnp.array([1])))
    [0.6931472]
    >>> print(cross_entropy(logits, jnp.array([[0.5, 0.5]])))
    [0.6931472]
    """
    if labels.ndim == logits.ndim:
        if labels.shape[-1] != logits.shape[-1]:
            why = f"rows of {labels.shape[-1]}, where there are {logits.shape[-1]} classes"
            fix = "pass class numbers of shape [n], or a share of each class"
            raise DataError("labels", why, fix=fix)
        return optax.softmax_cross_entropy(logits, labels)
    # As optax has it, but for its last `take`, whose gradient jax 0.11 cannot lay out on an
    # explicit mesh.
    of_label = jnp.take_along_axis(logits, labels[:, None], axis=-1).squeeze(-1)
    return jax.nn.logsumexp(logits, axis=-1) - of_label


@dataclass(frozen=True)
class Smoothed:
    """Cross-entropy with a `share` of every label spread evenly over all classes.

    Szegedy et al. 2016, arXiv:1512.00567. Reported is cross-entropy without it.

    >>> print(Smoothed(0.1)(jnp.array([[2.0, 0.0]]), jnp.array([0])).round(4))
    [0.2269]
    """

    share: float
    reported = staticmethod(cross_entropy)

    def __call__(self, logits: Array, labels: Array) -> Array:
        even = -jax.nn.log_softmax(logits).mean(axis=-1)
        return (1 - self.share) * cross_entropy(logits, labels) + self.share * even


@dataclass(frozen=True)
class ClassWeighted:
    """`loss_fn` times the weight of the example's class, for classes of unequal numbers.

    The mean is over examples, as Keras has it. Reported is what `loss_fn` is, without weights.

    >>> loss_fn = ClassWeighted((1.0, 3.0))
    >>> print(loss_fn(jnp.zeros((2, 2)), jnp.array([0, 1])).round(4))
    [0.6931 2.0794]
    """

    weights: Sequence[float]
    loss_fn: LossFn = cross_entropy

    @property
    def reported(self) -> LossFn:
        """What `loss_fn` is told by."""
        return reported(self.loss_fn)

    def __call__(self, logits: Array, labels: Array) -> Array:
        weights = jnp.asarray(self.weights, logits.dtype)
        chosen = labels @ weights if labels.ndim == logits.ndim else weights[labels]
        return chosen * self.loss_fn(logits, labels)


def loss_for(labels: Int[np.ndarray, " n"], *, smoothing: float, weights: int | None) -> LossFn:
    """Cross-entropy with labels smoothed, if by more than 0, and of so many classes weighted.

    >>> loss_for(np.array([0, 0, 1]), smoothing=0.1, weights=2)
    ClassWeighted(weights=(0.75, 1.5), loss_fn=Smoothed(share=0.1))
    """
    loss_fn = Smoothed(smoothing) if smoothing else cross_entropy
    return ClassWeighted(balanced(labels, weights), loss_fn) if weights else loss_fn


def balanced(labels: Int[np.ndarray, " n"], classes: int) -> tuple[float, ...]:
    """A weight for each class, so that all count the same: n / (classes * its examples).

    As scikit-learn's "balanced" has it; a class without examples has the weight 0.

    >>> balanced(np.array([0, 0, 0, 1]), 2)
    (0.6666666666666666, 2.0)
    """
    counts = np.bincount(labels, minlength=classes)
    return tuple(len(labels) / (classes * n) if n else 0.0 for n in counts.tolist())


def reported(loss_fn: LossFn) -> LossFn:
    """What `loss_fn` is told by: itself, unless it says otherwise."""
    return getattr(loss_fn, "reported", loss_fn)
