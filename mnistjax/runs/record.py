"""What a run leaves behind as it goes: every event in the log, in a checkpoint, on the screen."""

import time
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from mnistjax.processes import share
from mnistjax.report.console import TrainingDisplay
from mnistjax.runs.checkpoint import Checkpoints
from mnistjax.runs.log import MetricsLog
from mnistjax.runs.plan import Plan
from mnistjax.training.loop import EpochEnd, Event, Interrupted, Midway, StepEnd
from mnistjax.training.metrics import Metrics
from mnistjax.training.state import TrainState


class SoFar(NamedTuple):
    """The part of an epoch before an interruption: its metrics and seconds."""

    metrics: Metrics = Metrics.zero()
    seconds: float = 0.0

    @property
    def interrupted(self) -> bool:
        """Whether there was one: then the epoch has not been evaluated to its end."""
        return bool(self.metrics.count)


def read_so_far(extra: dict[str, Any]) -> SoFar:
    """What a checkpoint's `extra` says of its epoch; nothing at an epoch's end."""
    if "so_far" not in extra:
        return SoFar()
    loss_sum, correct, count, *more = extra["so_far"]
    by_name, latest = [*more, {}, {}][:2]  # older runs have neither
    sums = {name: np.asarray(value) for name, value in by_name.items()}
    metrics = Metrics(loss_sum, correct, count, sums, latest=latest)
    return SoFar(metrics, extra["train_seconds"])


def _so_far(event: Midway | Interrupted) -> dict[str, Any]:
    """What `read_so_far` reads."""
    metrics = event.train
    more = jax.tree.map(lambda total: np.asarray(total).tolist(), metrics.more)
    sums = [metrics.loss_sum, metrics.correct, metrics.count, more, metrics.latest]
    return {"so_far": sums, "train_seconds": event.train_seconds}


class Recorder:
    """Writes the events of a run where they belong; `finished` once early stopping says so."""

    def __init__(
        self, plan: Plan, checkpoints: Checkpoints, log: MetricsLog, display: TrainingDisplay
    ) -> None:
        self._plan, self._checkpoints, self._log = plan, checkpoints, log
        self._display = display
        self.finished = False

    def follow(self, events: Iterable[Event], state: TrainState) -> TrainState:
        """Record `events` to their end; the state after the last epoch, or before the first."""
        speed = _Speed(self._plan.batch_size)
        for event in events:
            if isinstance(event, Midway | Interrupted):
                self._checkpoints.save(event.step, event.state, extra=_so_far(event))
                if isinstance(event, Interrupted):
                    return event.state
                speed = _Speed(self._plan.batch_size)
                continue
            if isinstance(event, StepEnd):
                rate = speed.step()
            else:
                rate = self._plan.examples / event.train_seconds
                speed, state = _Speed(self._plan.batch_size), event.state
            self._log.add(event, images_per_second=rate)
            if isinstance(event, EpochEnd):  # after its row: a kill between loses neither
                value = self._plan.chooses(self._log.epochs[-1])
                self._checkpoints.save(event.step, event.state, extra={}, score=value)
            self._display.show(event, images_per_second=rate)
            if isinstance(event, EpochEnd) and self.patience_is_over(event.step):
                break
        return state

    def patience_is_over(self, step: int) -> bool:
        """Whether early stopping ends the run after `step`, an epoch's last: then says so, too.

        By the checkpoints alone, so that a run killed after its last save ends here as well.
        """
        best, patience = self._checkpoints.best, self._plan.early_stopping
        if patience is None:
            return False
        epochs = 0 if best is None else (step - best) // self._plan.steps
        self.finished = share(epochs >= patience)
        if self.finished:
            self.tell(f"early stopping: no better epoch in {epochs}; a larger patience goes on")
        return self.finished

    def tell(self, line: str) -> None:
        """A line for who looks on."""
        self._display.tell(line)


class _Speed:
    """Images per second over the last twenty steps."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size, self._times = batch_size, deque([time.perf_counter()], maxlen=21)

    def step(self) -> float:
        self._times.append(time.perf_counter())
        seconds = self._times[-1] - self._times[0]
        return (len(self._times) - 1) * self._batch_size / seconds
