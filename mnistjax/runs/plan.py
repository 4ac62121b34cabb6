"""What a run trains: a model, its data, and the stages it goes through."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from mnistjax.data.augment import Augment
from mnistjax.data.batches import Batch, steps_per_epoch, to_unit
from mnistjax.data.copies import examples_in
from mnistjax.data.dataset import Split
from mnistjax.errors import UsageError
from mnistjax.models.functional import ApplyFn, ModelState, Params
from mnistjax.runs.best import Score, by_loss, last
from mnistjax.training.freeze import Mask
from mnistjax.training.latest import RATES
from mnistjax.training.losses import LossFn, cross_entropy
from mnistjax.training.metrics import Metric
from mnistjax.training.state import TrainState, init_state


class Stage(NamedTuple):
    """Epochs that train alike: the last one, counted from the run's start, and what trains how.

    `rates` are the learning rates of `tx`, by the step of the run: told in the log, nothing else.
    """

    until: int
    tx: optax.GradientTransformation
    frozen: Mask = False
    rates: Mapping[str, optax.ScalarOrSchedule] = {}

    @classmethod
    def by_adam(cls, until: int, rate: float) -> "Stage":
        """All parameters by Adam at one rate.

        >>> Stage.by_adam(5, 1e-3).rates
        {'learning_rate': 0.001}
        """
        return cls(until, optax.adam(rate), rates={RATES: rate})

    @classmethod
    def by_one_cycle(cls, until: int, rate: float, *, steps: int) -> "Stage":
        """All parameters by Adam at a rate that rises from a tenth of `rate` for 0.3 of all steps,
        and falls to a hundredth, both along a cosine (Smith 2018, arXiv:1803.09820).

        `steps` are those of an epoch.

        >>> told = Stage.by_one_cycle(2, 0.01, steps=5).rates_until(10)["learning_rate"]
        >>> print(told[:6].round(4))
        [0.001  0.0032 0.0078 0.01   0.0095 0.0081]
        """
        schedule = optax.cosine_onecycle_schedule(
            until * steps, rate, pct_start=0.3, div_factor=10, final_div_factor=10
        )
        return cls(until, optax.adam(schedule), rates={RATES: schedule})

    def rates_until(self, steps: int) -> dict[str, np.ndarray]:
        """Each of `rates` at steps 0 to `steps`.

        >>> stage = Stage(1, optax.sgd(0.1), rates={"learning_rate": lambda step: 1 / (1 + step)})
        >>> stage.rates_until(2)["learning_rate"].tolist()
        [1.0, 0.5]
        """
        every = jnp.arange(steps)

        def told(rate: optax.ScalarOrSchedule) -> np.ndarray:
            if not callable(rate):
                return np.full(steps, rate)
            return np.asarray(jax.jit(jax.vmap(rate))(every))  # not jitted a cycle took 0.27 s

        with jax.numpy_dtype_promotion("standard"):  # optax's schedules mix floats and counts
            return {name: told(rate) for name, rate in self.rates.items()}


def itself(batch: Batch) -> Batch:
    """What a batch goes through where nothing is frozen."""
    return batch


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that decides what a run computes.

    `preprocess` turns raw pixels into what `apply_fn` takes, inside the step; `through` turns a
    batch into what the step takes, outside of it: a frozen part's features. `score` of an epoch's
    row (`runs.best`) chooses the epoch, and where nothing is held out it is the last; after
    `early_stopping` epochs without a better one the run ends. `loss_fn` and `metrics` as in
    `make_train_step`; each metric is in every row, `val_<name>` for one, and so can choose.
    `augment` changes the raw images of each step (`augmented`), before they go `through` anything,
    never those of an evaluation. The gradient of a batch is summed over at least `accumulate`
    portions, one after another in the memory of one; statistics of batches are those of a portion.
    """

    apply_fn: ApplyFn
    params: Params
    stages: Sequence[Stage]
    train: Split
    validation: Split | None = None
    model_state: ModelState = ()
    batch_size: int = 128
    seed: int = 0
    preprocess: Callable[[Array], Array] = to_unit
    through: Callable[[Batch], Batch] = itself
    loss_fn: LossFn = cross_entropy
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    score: Score = by_loss
    early_stopping: int | None = None
    augment: Augment | None = None
    accumulate: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.accumulate <= self.batch_size:
            why = f"a batch of {self.batch_size} has no such number of portions"
            raise UsageError(f"`accumulate` {self.accumulate}", why, fix="pass `accumulate=2`")
        if self.validation is None and self.early_stopping is not None:
            why = "nothing is held out that could tell whether an epoch was better"
            fix = "hold out a part, or drop `early_stopping=None`"
            raise UsageError(f"`early_stopping` {self.early_stopping}", why, fix=fix)

    @property
    def chooses(self) -> Score:
        """What chooses the epoch: `score`, or being the last."""
        return last if self.validation is None else self.score

    @property
    def held_out(self) -> int:
        """How many examples choose the epoch."""
        return 0 if self.validation is None else len(self.validation.labels)

    @property
    def examples(self) -> int:
        """How many an epoch has: of copies of the same one each."""
        return examples_in(self.train)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return steps_per_epoch(self.examples, self.batch_size)

    @property
    def epochs(self) -> int:
        """Epochs of all stages together."""
        return self.stages[-1].until

    def stage_that_made(self, step: int) -> int:
        """The number of the stage that the state after `step` steps belongs to."""
        made = (i for i, stage in enumerate(self.stages) if step <= stage.until * self.steps)
        return next(made, len(self.stages) - 1)

    def begin(self, stage: int = 0) -> TrainState:
        """The first state, with the optimiser of `stage`."""
        return init_state(self.params, self.stages[stage].tx, self.model_state)
