"""Numbers that stopped being numbers: noticed on the device, told on the host, never saved."""

import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from mnistjax.errors import NumericalError
from mnistjax.training.freeze import paths
from mnistjax.training.metrics import Metrics

FIX = "pass a smaller `learning_rate`"


def all_finite(tree: Any) -> Bool[Array, ""]:
    """Whether every value of every leaf is finite.

    An "and" over values, not a norm: no sum to overflow, and a CPU does it eight values at a time.

    >>> bool(all_finite({"w": jnp.array([1.0, 2.0])})), bool(all_finite([jnp.array(jnp.inf)]))
    (True, False)
    """
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.stack(leaves).all()


def nan_unless_finite(metrics: Metrics, grads: Any, *, skipped: Array | None = None) -> Metrics:
    """`metrics` with its loss made NaN where a gradient is not finite: one number then tells all.

    `grads` holds trainable leaves only, so that nothing here reads a frozen gradient. Where
    `skipped` is True the optimiser has left the batch out, and so do the metrics.
    """
    loss_sum = jnp.where(all_finite(grads), metrics.loss_sum, jnp.nan)
    told = replace(metrics, loss_sum=loss_sum)
    if skipped is None:
        return told
    return jax.tree.map(lambda total: jnp.where(skipped, jnp.zeros_like(total), total), told)


def fetch(metrics: Metrics, what: str) -> Metrics:
    """`metrics` on the host; waits for the device. Raises `NumericalError` about `what`.

    Of evaluation: a network whose logits are all NaN "answers" class 0, and would score
    that class's share of the examples.

    >>> fetch(Metrics(jnp.array(2.0), 3, 4), "step 1").loss
    0.5
    >>> fetch(Metrics(jnp.array(jnp.nan), 0, 4), "step 1")
    Traceback (most recent call last):
    mnistjax.errors.NumericalError: step 1: loss or gradient is nan. Fix: pass a smaller `learning_rate`
    """  # noqa: E501
    fetched = metrics.on_host()
    refuse_unless_finite(fetched, what)
    return fetched


def refuse_unless_finite(metrics: Metrics, what: str) -> None:
    """Raise `NumericalError` about `what` where the loss, on the host, is not finite."""
    if not math.isfinite(metrics.loss_sum):
        raise NumericalError(what, f"loss or gradient is {metrics.loss_sum}", fix=FIX)


def check_finite(tree: Any, what: str) -> None:
    """Raise `NumericalError` naming the leaves of `tree` with values that are not finite.

    For a state about to be saved: a loss can be finite while a parameter, or what an optimiser
    remembers of its gradients, no longer is.
    """
    named = zip(paths(tree), jax.tree.leaves(tree), strict=True)
    numbers = {path: leaf for path, leaf in named if jnp.issubdtype(leaf.dtype, jnp.inexact)}
    flags = jax.device_get(_flags([*numbers.values()]))
    bad = [path for path, good in zip(numbers, flags, strict=True) if not good]
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise NumericalError(what, f"{', '.join(bad[:3])}{more} is not finite", fix=FIX)


@jax.jit
def _flags(tree: Any) -> list[Array]:
    return [all_finite(leaf) for leaf in jax.tree.leaves(tree)]
