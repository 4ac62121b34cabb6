"""Stages of fine-tuning as optimisers with masks: Adam, a falling or constant rate, patterns."""

from collections.abc import Sequence

import jax.numpy as jnp
import optax

from experiments.recipe import Part
from experiments.train import Stage
from mnistjax.models.functional import Params
from mnistjax.training.freeze import freeze_mask
from mnistjax.training.stages import group_by_path

HEAD = "head/dense*"


def one_stage(
    params: Params, *, epochs: int, steps: int, rate: float, unfrozen: Sequence[str], cosine: bool
) -> list[Stage]:
    """The head and the `unfrozen` blocks from the first step on, all at one rate."""
    trainable = [HEAD, *(f"backbone/{block}_*" for block in unfrozen)]
    frozen = freeze_mask(params, trainable=trainable)
    schedule = optax.cosine_decay_schedule(rate, epochs * steps) if cosine else rate
    tx = optax.selective_transform(optax.adam(schedule), freeze_mask=frozen)
    return [Stage(epochs, tx, frozen)]


def several_stages(
    params: Params, parts: Sequence[Part], *, steps: int, rate: float, cosine: bool
) -> list[Stage]:
    """A stage per part; what an earlier stage trained goes on, each rate falls within its stage."""
    stages, begun, until = [], {}, 0
    for i, part in enumerate(parts):
        first, until = until, until + part.epochs
        groups: dict[str, optax.GradientTransformation | None] = {}
        for j, other in enumerate(parts):
            pattern = HEAD if other.name == "head" else f"backbone/{other.name}_*"
            groups[pattern] = None
            if j <= i:
                begun.setdefault(other.name, first)
                # The group's own count starts at its first step, which an earlier stage may hold.
                offset = (first - begun[other.name]) * steps
                schedule = _rate(other.rate or rate, part.epochs * steps, offset, cosine)
                groups[pattern] = optax.adam(schedule)
        stages.append(Stage(until, *group_by_path(params, groups | {"*": None})))
    return stages


def _rate(rate: float, length: int, offset: int, cosine: bool) -> optax.Schedule:
    if not cosine:
        return optax.constant_schedule(rate)
    fall = optax.cosine_decay_schedule(rate, length)
    return lambda count: fall(jnp.maximum(count - offset, 0))
