"""The host's loop as a generator of events: who reads them logs, saves, or stops by `break`."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax

from mnistjax.data.batches import epoch_batches, epoch_order, on_device, steps_per_epoch
from mnistjax.data.dataset import Split
from mnistjax.training.evaluate import EvalStep, score_batches
from mnistjax.training.finite import check_finite, fetch
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
    """`should_stop` said so: the state after `step`, and its epoch so far.

    `step` may be the epoch's last one: then it has not been evaluated to its end.
    """

    step: int
    epoch: int
    train: Metrics
    train_seconds: float
    state: TrainState


Event = StepEnd | EpochEnd | Interrupted


def fit(  # noqa: PLR0913
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
) -> Iterator[Event]:
    """Train from `state` to the end of epoch `epochs`, yielding an event for each step and epoch.

    Where it starts follows from `state.step` alone, and the order of examples from (seed, epoch):
    a run continued from a saved state equals one never interrupted, bit for bit, on the same
    device kind and thread count. `so_far`: metrics and seconds of an epoch that was interrupted.
    Metrics are fetched one step late, so the device never waits for the host. `should_stop` is
    asked after every step and every batch of the evaluation. An epoch's last batch is padded; of a
    model with state it is a smaller one, since made-up rows would count in its statistics.
    Raises `NumericalError` when a loss, a gradient or any value of the state is not finite: no
    event holds such a state.
    """
    images, labels = on_device(train)
    padded = not jax.tree.leaves(state.model_state)
    steps, step = steps_per_epoch(len(train.labels), batch_size), int(state.step)
    total, seconds = so_far
    epoch, done = divmod(step, steps)
    if done == 0 and total.count:  # stopped between its last step and the end of its evaluation
        epoch, done = epoch - 1, steps
    while epoch < epochs:
        order = epoch_order(seed, epoch, count=len(train.labels), batch_size=batch_size)
        started = time.perf_counter() - seconds
        late: Metrics | None = None
        for batch in epoch_batches(images, labels, order, first=done, padded=padded):
            state, metrics = train_step(state, batch)
            if late is not None:
                total += (fetched := fetch(late, f"step {step}"))
                yield StepEnd(step, epoch + 1, fetched)
            late, step = metrics, step + 1
            if should_stop():
                break
        if late is not None:
            total += (fetched := fetch(late, f"step {step}"))
            yield StepEnd(step, epoch + 1, fetched)
            seconds = time.perf_counter() - started
        check_finite(state, f"state after step {step}")
        scores = None
        if step == (epoch + 1) * steps:
            scores = _validate(eval_step, state, validation, should_stop)
        if scores is None:
            yield Interrupted(step, epoch + 1, total, seconds, state)
            return
        yield EpochEnd(step, epoch + 1, total, scores, seconds, state)
        epoch, done, total, seconds = epoch + 1, 0, Metrics.zero(), 0.0
        if should_stop():
            return


def _validate(
    eval_step: EvalStep, state: TrainState, split: Split, should_stop: Callable[[], bool]
) -> Metrics | None:
    """The metrics of `split`; None if told to stop before its end."""
    total = Metrics.zero()
    model_state = state.model_state
    for metrics, _ in score_batches(eval_step, state.params, split, model_state=model_state):
        total += metrics
        if should_stop():
            return None
    return total
