"""What a step tells of itself: the gradient's norm, the learning rate, steps skipped so far."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from mnistjax.models.functional import Params
from mnistjax.training.finite import all_finite

RATES = "learning_rate"


def latest(grads: Params, opt_state: optax.OptState) -> dict[str, Array]:
    """`grad_norm`, and of the optimiser what its state tells: `learning_rate`, `skipped`.

    The norm is that of the mean gradient of what trains, before the optimiser clips it. The rate is
    told by `optax.inject_hyperparams` and line searches, one for each group that has its own; the
    steps left out by `optax.apply_if_finite`.

    >>> tx = optax.inject_hyperparams(optax.sgd)(learning_rate=0.5)
    >>> params = {"w": jnp.array([3.0, 4.0])}
    >>> {name: float(value) for name, value in latest(params, tx.init(params)).items()}
    {'grad_norm': 5.0, 'learning_rate': 0.5}
    """
    found = optax.tree_utils.tree_get_all_with_path(opt_state, RATES)
    rates = [value for _, value in found if isinstance(value, jax.Array) and value.ndim == 0]
    names = [RATES, *(f"{RATES}_{number}" for number in range(2, len(rates) + 1))]
    told = {"grad_norm": optax.tree.norm(grads), **dict(zip(names, rates, strict=False))}
    skipping = states_of(opt_state, optax.ApplyIfFiniteState)
    if skipping:
        totals = jnp.stack([state.total_notfinite for state in skipping])
        told["skipped"] = totals.max()
    return told


def left_out(opt_state: optax.OptState, updates: optax.Updates) -> Array | None:
    """Whether `optax.apply_if_finite` has left out the step that gave `opt_state` and `updates`.

    At its limit it has not, and lets pass what is not finite. None where there is none.
    """
    states = states_of(opt_state, optax.ApplyIfFiniteState)
    if not states:
        return None
    return ~jnp.stack([state.last_finite for state in states]).all() & all_finite(updates)


def states_of(opt_state: optax.OptState, kind: type) -> list[Any]:
    """The states of one kind within that of an optimiser, however deep; those within them not.

    >>> states_of(optax.adam(0.1).init({"w": jnp.zeros(2)}), optax.ApplyIfFiniteState)
    []
    """
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, kind))
    return [node for node in nodes if isinstance(node, kind)]
