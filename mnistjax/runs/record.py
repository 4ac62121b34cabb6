"""What a run leaves behind as it goes: every event in the log, in a checkpoint, on the screen."""

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import astuple
from typing import Any, NamedTuple

from mnistjax.report.console import TrainingDisplay
from mnistjax.runs.best import best_epoch
from mnistjax.runs.checkpoint import Checkpoints
from mnistjax.runs.log import MetricsLog
from mnistjax.runs.plan import Plan
from mnistjax.training.loop import EpochEnd, Event, Interrupted, StepEnd
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
    return SoFar(Metrics(*extra["so_far"]), extra["train_seconds"])


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
            if isinstance(event, Interrupted):
                extra = {
                    "so_far": list(astuple(event.train)),
                    "train_seconds": event.train_seconds,
                }
                self._checkpoints.save(event.step, event.state, extra=extra)
                return event.state
            if isinstance(event, StepEnd):
                rate = speed.step()
            else:
                rate = len(self._plan.train.labels) / event.train_seconds
                speed, state = _Speed(self._plan.batch_size), event.state
            self._log.add(event, images_per_second=rate)
            if isinstance(event, EpochEnd):  # after its row: a kill between loses neither
                value = self._plan.score(event.validation.loss, event.validation.accuracy)
                self._checkpoints.save(event.step, event.state, extra={}, score=value)
            self._display.show(event, images_per_second=rate)
            if isinstance(event, EpochEnd) and self._patience_is_over():
                self.finished = True
                break
        return state

    def tell(self, line: str) -> None:
        """A line for who looks on."""
        self._display.tell(line)

    def _patience_is_over(self) -> bool:
        epochs, patience = self._log.epochs, self._plan.early_stopping
        if patience is None:
            return False
        return epochs[-1]["epoch"] - best_epoch(epochs, self._plan.score)["epoch"] >= patience


class _Speed:
    """Images per second over the last twenty steps."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size, self._times = batch_size, deque([time.perf_counter()], maxlen=21)

    def step(self) -> float:
        self._times.append(time.perf_counter())
        seconds = self._times[-1] - self._times[0]
        return (len(self._times) - 1) * self._batch_size / seconds
