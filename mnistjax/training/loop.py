"""The host's loop as a generator of events: who reads them logs, saves, or stops by `break`."""

import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mnistjax.data.batches import epoch_order, on_device, steps_per_epoch, take_batch
from mnistjax.data.dataset import Split
from mnistjax.errors import NumericalError
from mnistjax.training.evaluate import EvalStep, evaluate
from mnistjax.training.metrics import Metrics
from mnistjax.training.state import TrainState
from mnistjax.training.step import TrainStep


class StepEnd(NamedTuple):
    """A training step whose metrics have arrived; the device is already at the next one."""

    step: int
    epoch: int
    metrics: Metrics


class EpochEnd(NamedTuple):
    """An epoch: metrics over all its steps, of the validation split, and seconds for each.

    `state` is alive until the generator goes on (its buffers are then donated): save or copy now.
    """

    step: int
    epoch: int
    train: Metrics
    validation: Metrics
    train_seconds: float
    state: TrainState


class Interrupted(NamedTuple):
    """`should_stop` said so: the state after `step`, and its epoch so far."""

    step: int
    epoch: int
    train: Metrics
    train_seconds: float
    state: TrainState


def fit(
    state: TrainState,
    *,
    train_step: TrainStep,
    eval_step: EvalStep,
    train: Split,
    validation: Split,
    epochs: int,
    batch_size: int,
    seed: int,
    so_far: tuple[Metrics, float] = (Metrics.zero(), 0.0),
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[StepEnd | EpochEnd | Interrupted]:
    """Train from `state` to the end of epoch `epochs`, yielding an event for each step and epoch.

    Where it starts follows from `state.step` alone, and the order of examples from (seed, epoch):
    a run continued from a saved state equals one never interrupted, bit for bit, on the same
    device kind and thread count. `so_far`: metrics and seconds of an epoch resumed in its middle.
    Metrics are fetched one step late, so the device never waits for the host.
    Raises `NumericalError` when the loss is not finite.
    """
    images, labels = on_device(train)
    steps = steps_per_epoch(len(train.labels), batch_size)
    step = int(state.step)
    total, seconds = so_far
    while step < epochs * steps:
        epoch, done = divmod(step, steps)
        order = epoch_order(seed, epoch, count=len(train.labels), batch_size=batch_size)
        started = time.perf_counter() - seconds
        late: Metrics | None = None
        for row in order[done:]:
            state, metrics = train_step(state, take_batch(images, labels, row))
            if late is not None:
                total += (fetched := _finite(late, step))
                yield StepEnd(step, epoch + 1, fetched)
            late, step = metrics, step + 1
            if should_stop():
                break
        assert late is not None
        total += (fetched := _finite(late, step))
        yield StepEnd(step, epoch + 1, fetched)
        seconds = time.perf_counter() - started
        if step < (epoch + 1) * steps:
            yield Interrupted(step, epoch + 1, total, seconds, state)
            return
        scores, _ = evaluate(eval_step, state.params, validation)
        yield EpochEnd(step, epoch + 1, total, scores, seconds, state)
        total, seconds = Metrics.zero(), 0.0
        if should_stop():
            return


def _finite(metrics: Metrics, step: int) -> Metrics:
    fetched = metrics.on_host()
    if not math.isfinite(fetched.loss_sum):
        fix = "pass a smaller --learning-rate; --resume continues from the last good checkpoint"
        raise NumericalError(f"step {step}", f"the loss is {fetched.loss_sum}", fix=fix)
    return fetched
