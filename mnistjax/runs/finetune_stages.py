"""Stages of fine-tuning as optimisers with masks: AdamW, a falling or constant rate, patterns."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import optax

from mnistjax.models.functional import Params
from mnistjax.runs.finetune_recipes import Recipe
from mnistjax.runs.plan import Stage
from mnistjax.runs.settings import Setting, setting_of_epochs
from mnistjax.training.freeze import freeze_mask
from mnistjax.training.groups import group_by_path
from mnistjax.training.latest import RATES

HEAD = "head/dense*"
Part = tuple[str, int, float | None]
"""What trains too from a stage on, "head" or a block, for how many epochs, and its own rate."""


class Adam(NamedTuple):
    """How the optimiser of every group is made: its rate, its decay, and whether the rate falls."""

    rate: float
    weight_decay: float
    cosine: bool

    def over(self, steps: int, *, after: int = 0) -> optax.GradientTransformation:
        """AdamW for `steps` steps, `after` so many that the same parameters trained before."""
        rate = self.falling(steps, after=after)
        return optax.adamw(rate, weight_decay=self.weight_decay)

    def falling(self, steps: int, *, after: int = 0) -> optax.ScalarOrSchedule:
        """The rate by steps, `after` so many; constant unless `cosine`."""
        fall = optax.cosine_decay_schedule(self.rate, steps)
        return (lambda count: fall(jnp.maximum(count - after, 0))) if self.cosine else self.rate


def epochs_setting(epochs: int, recipe: Recipe, *, in_stages: bool) -> Setting:
    """How many `epochs` there are by `recipe`; stages say so themselves."""
    if in_stages:
        return Setting(None, may_change=True)
    return setting_of_epochs(epochs, falls="to 0" if recipe.cosine else "")


def one_stage(
    params: Params, unfrozen: Sequence[str], adam: Adam, *, epochs: int, steps: int
) -> list[Stage]:
    """The head and the `unfrozen` blocks from the first step on, all at one rate."""
    trainable = [HEAD, *(f"backbone/{block}_*" for block in unfrozen)]
    frozen = freeze_mask(params, trainable=trainable)
    tx = optax.selective_transform(adam.over(epochs * steps), freeze_mask=frozen)
    return [Stage(epochs, tx, frozen, {RATES: adam.falling(epochs * steps)})]


def several_stages(params: Params, parts: Sequence[Part], adam: Adam, *, steps: int) -> list[Stage]:
    """A stage per part; what an earlier stage trained goes on, each rate falls within its stage."""
    stages, begun, until = [], {}, 0
    for i, (name, epochs, _) in enumerate(parts):
        first, until = until, until + epochs
        begun[name] = first
        groups: dict[str, optax.GradientTransformation | None] = {}
        rates: dict[str, optax.ScalarOrSchedule] = {}
        for j, (other, _, rate) in enumerate(parts):
            pattern = HEAD if other == "head" else f"backbone/{other}_*"
            groups[pattern] = None
            if j > i:
                continue
            own = adam._replace(rate=rate or adam.rate)
            # Of a group's own steps, those of earlier stages have passed.
            groups[pattern] = own.over(epochs * steps, after=(first - begun[other]) * steps)
            rates[f"{RATES}_{other}"] = own.falling(epochs * steps, after=first * steps)
        stages.append(Stage(until, *group_by_path(params, groups | {"*": None}), rates))
    return stages
