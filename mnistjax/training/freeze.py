"""Which parameters train: path patterns become masks, masks cut a parameter tree in two."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import jax
import optax

from mnistjax.errors import UsageError
from mnistjax.models.functional import Params

T = TypeVar("T")
Mask = Any
"""A tree of bools like the parameters, or one bool for all of them: True is frozen."""


def paths(params: Any) -> list[str]:
    """The path of every leaf, its keys joined by "/", in the order of `jax.tree.leaves`.

    >>> paths({"head": {"kernel": 0, "bias": 0}})
    ['head/bias', 'head/kernel']
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]


def freeze_mask(params: Params, *, trainable: Sequence[str]) -> Mask:
    """The mask that freezes all but what the patterns in `trainable` name.

    Patterns are those of a shell on whole paths, and `*` matches "/" too. The mask is for
    `optax.selective_transform(tx, freeze_mask=mask)` and `make_train_step(frozen=mask)`.
    Raises `UsageError` for a pattern that matches nothing.

    >>> freeze_mask({"backbone": {"conv": 0}, "head": {"dense": 0}}, trainable=["head/*"])
    {'backbone': {'conv': True}, 'head': {'dense': False}}
    """
    names = paths(params)
    for pattern in trainable:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise _unmatched(pattern, names)
    frozen = [not any(fnmatchcase(name, pattern) for pattern in trainable) for name in names]
    return jax.tree.unflatten(jax.tree.structure(params), frozen)


def match_once(params: Params, patterns: Mapping[str, T]) -> Any:
    """The tree of the values whose pattern is the first to match each parameter's path.

    For learning rates or labels by block, and for masks that name what they freeze. Raises
    `UsageError` for parameters that no pattern covers, and for patterns that match nothing or
    only what earlier ones took: each is a typing error sooner than a wish.

    >>> match_once({"conv": {"w": 0}, "head": {"w": 0}}, {"head/*": 1e-3, "*": 1e-5})
    {'conv': {'w': 1e-05}, 'head': {'w': 0.001}}
    """
    names = paths(params)
    winners = [next((p for p in patterns if fnmatchcase(name, p)), None) for name in names]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise _unmatched(pattern, names)
        if pattern not in winners:
            why = "matches only parameters that earlier patterns took"
            raise UsageError(f"pattern {pattern}", why, fix="put the more specific pattern first")
    uncovered = [name for name, winner in zip(names, winners, strict=True) if winner is None]
    if uncovered:
        what = f"{len(uncovered)} parameters ({_some(uncovered)})"
        raise UsageError(what, "no pattern covers them", fix="add a pattern for them, or a last *")
    values = [patterns[winner] for winner in winners if winner is not None]
    return jax.tree.unflatten(jax.tree.structure(params), values)


def trainable_part(params: Params, frozen: Mask) -> Params:
    """`params` without the frozen leaves: a gradient with respect to it has none of them either.

    In their place is `optax.MaskedNode`, a branch without leaves, as in optax's own states.

    >>> trainable_part({"conv": 1, "head": 2}, {"conv": True, "head": False})
    {'conv': MaskedNode(), 'head': 2}
    """
    return jax.tree.map(lambda out, leaf: optax.MaskedNode() if out else leaf, frozen, params)


def merge(trainable: Params, params: Params, frozen: Mask) -> Params:
    """`params` with its trainable leaves taken from `trainable`.

    >>> merge({"conv": optax.MaskedNode(), "head": 3}, {"conv": 1, "head": 2},
    ...       {"conv": True, "head": False})
    {'conv': 1, 'head': 3}
    """
    return jax.tree.map(lambda out, new, old: old if out else new, frozen, trainable, params)


def _unmatched(pattern: str, names: Sequence[str]) -> UsageError:
    close = difflib.get_close_matches(pattern, names, n=3, cutoff=0)
    fix = f"name one of those there are, such as {', '.join(close)}"
    return UsageError(f"pattern {pattern}", "matches no parameter", fix=fix)


def _some(names: Sequence[str]) -> str:
    shown: Iterable[str] = names[:5]
    return ", ".join([*shown, *(["..."] if len(names) > 5 else [])])
