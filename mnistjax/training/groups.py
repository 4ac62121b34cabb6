"""Training in stages: groups of parameters with an optimiser each, and states that outlive one."""

from collections.abc import Mapping, Set
from typing import Any, NamedTuple

import jax
import optax
from jax.tree_util import keystr, tree_leaves_with_path

from mnistjax.errors import UsageError
from mnistjax.models.functional import Params
from mnistjax.training.freeze import Mask, match_once, paths


class Groups(NamedTuple):
    """One transformation over all parameters, and what it leaves frozen."""

    tx: optax.GradientTransformation
    frozen: Mask


def group_by_path(
    params: Params, groups: Mapping[str, optax.GradientTransformation | None]
) -> Groups:
    """An optimiser per path pattern, `None` for frozen; patterns as in `match_once`.

    Each pattern keeps its own state and step count, so a group that joins in a later stage has
    Adam's bias correction from its own first step. A clip by the norm of all that trains goes
    around the groups: `optax.chain(optax.clip_by_global_norm(1.0), tx)`.

    >>> params = {"conv": {"w": 0.0}, "head": {"w": 0.0}}
    >>> group_by_path(params, {"head/*": optax.adam(1e-3), "conv/*": None}).frozen
    {'conv': {'w': True}, 'head': {'w': False}}
    """
    labels = match_once(params, {pattern: pattern for pattern in groups})
    frozen = match_once(params, {pattern: tx is None for pattern, tx in groups.items()})
    tx = optax.partition({name: tx or optax.set_to_zero() for name, tx in groups.items()}, labels)
    return Groups(tx, frozen)


class Retargeted(NamedTuple):
    """An optimiser state for another set of trainable parameters, and whose part of it is new."""

    opt_state: optax.OptState
    fresh: tuple[str, ...]
    """Paths of the parameters whose state was initialised, for the log."""


def retarget(
    opt_state: optax.OptState, *, tx: optax.GradientTransformation, params: Params
) -> Retargeted:
    """The state of `tx` for `params` with every array that `opt_state` has at the same place.

    Kept bit for bit: moments and counts of parameters that trained before in a group of the same
    name. A rate in the state (`optax.inject_hyperparams`) is kept as well: give the new rate to
    the group instead. Raises `UsageError` if old and new parameters would share a step count.

    >>> params = {"conv": {"w": jax.numpy.ones(2)}, "head": {"w": jax.numpy.ones(2)}}
    >>> head = group_by_path(params, {"head/*": optax.adam(1e-3), "conv/*": None}).tx
    >>> both = group_by_path(params, {"head/*": optax.adam(1e-4), "conv/*": optax.adam(1e-5)}).tx
    >>> retarget(head.init(params), tx=both, params=params).fresh
    ('conv/w',)
    """
    before = {keystr(path): leaf for path, leaf in tree_leaves_with_path(opt_state)}
    initial, known = tx.init(params), {path for path, _ in tree_leaves_with_path(params)}
    fresh, counting, leaves = [], [], []
    for path, leaf in tree_leaves_with_path(initial):
        old = before.get(keystr(path))
        same = old is not None and (old.shape, old.dtype) == (leaf.shape, leaf.dtype)
        leaves.append(old if same else leaf)
        if not same:
            fresh.append(path)
        elif _parameter(path, known) is None:
            counting.append(path[:-1])
    for path in fresh:
        if any(path[: len(owner)] == owner for owner in counting):
            why = (
                "joins a group that has trained, whose step count is not its own: Adam's first "
                "updates of it would be several times the learning rate"
            )
            fix = "give it a pattern of its own in group_by_path"
            raise UsageError(f"parameter {_parameter(path, known)}", why, fix=fix)
    names = {_parameter(path, known) for path in fresh}
    opt_state = jax.tree.unflatten(jax.tree.structure(initial), leaves)
    return Retargeted(opt_state, tuple(name for name in paths(params) if name in names))


def _parameter(path: tuple[Any, ...], known: Set[tuple[Any, ...]]) -> str | None:
    """The parameter, of those `known` by their paths, that the end of a state's path names."""
    ends = (path[i:] for i in range(len(path) + 1))
    found = next((end for end in ends if end in known), None)
    return None if found is None else keystr(found, simple=True, separator="/")
