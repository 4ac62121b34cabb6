"""The host's loop as a generator of events: who reads them logs, saves, or stops by `break`."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import NamedTuple

import jax

from mnistjax.data.batches import epoch_order, steps_per_epoch
from mnistjax.data.copies import copies_in, examples_in, rows_of_copies
from mnistjax.data.dataset import Split, as_split
from mnistjax.data.source import Source
from mnistjax.ops.lowering import as_lax
from mnistjax.training.calls import Call, InLoops, calls_from
from mnistjax.training.check import check_split
from mnistjax.training.ema import evaluated_params
from mnistjax.training.evaluate import EvalStep, rows_at_a_time, score_batches, scored
from mnistjax.training.finite import check_finite, refuse_unless_finite
from mnistjax.training.metrics import Metrics
from mnistjax.training.state import TrainState, TrainStep, own


class StepEnd(NamedTuple):
    """A training step whose metrics have arrived; the device is already at the next one."""

    step: int
    epoch: int
    metrics: Metrics


class EpochEnd(NamedTuple):
    """An epoch: metrics over all its steps, of the validation split, and seconds of training.

    Without a validation split those of no examples.

    `state` is the reader's to keep: the next epoch begins with a copy.
    """

    step: int
    epoch: int
    train: Metrics
    validation: Metrics
    train_seconds: float
    state: TrainState


class Midway(NamedTuple):
    """`should_stop` said SAVE: the state after `step`, and its epoch so far; training goes on."""

    step: int
    epoch: int
    train: Metrics
    train_seconds: float
    state: TrainState


class Interrupted(NamedTuple):
    """`should_stop` said True: the state after `step`, and its epoch so far.

    `step` may be the epoch's last one: then it has not been evaluated to its end.
    """

    step: int
    epoch: int
    train: Metrics
    train_seconds: float
    state: TrainState


Event = StepEnd | EpochEnd | Midway | Interrupted


SAVE = "save"


def fit(  # noqa: PLR0913
    state: TrainState,
    *,
    train_step: TrainStep | InLoops,
    eval_step: EvalStep,
    train: Split | Source,
    validation: Split | Source | None = None,
    epochs: int,
    batch_size: int,
    seed: int,
    so_far: tuple[Metrics, float] = (Metrics.zero(), 0.0),
    should_stop: Callable[[], bool | str] = lambda: False,
    donate: bool = False,
) -> Iterator[Event]:
    """Train from `state` to the end of epoch `epochs`, yielding an event for each step and epoch.

    `state` and those of events stay the caller's: they are copied, once an epoch, before the steps
    that donate them. So an interruption, or an error, loses no more than the epoch in hand. With
    `donate` nothing is copied, and there is one state in memory instead of two: `state` is gone
    with the first step, that of an event when the next is asked for. Validation is of
    `evaluated_params`.

    Where it starts follows from `state.step` alone, and the order of examples from (seed, epoch):
    a run continued from a saved state equals one never interrupted, bit for bit, on the same
    device kind and thread count. `so_far`: metrics and seconds of an epoch that was interrupted.
    `train` and `validation` may be sources of examples (`as_split`), and larger than memory: then
    the host gathers their batches ahead, to the same bits (`batches_from`). Of `Copies` of the same
    examples an epoch sees one of each, and the next another.
    Metrics are fetched one call late, so the device never waits for the host. A call is a step, or
    on one GPU or TPU a few (`training.calls`), where `train_step` is jitted and the images stay on
    the device. `should_stop` is asked after every call and every batch of the evaluation: True ends
    with `Interrupted`, SAVE gives a `Midway` at once and goes on. An epoch's last batch is padded;
    of a model with state it is a smaller one, since made-up rows would count in its statistics.
    Raises `DataError` for a split that the steps do not take (`check_split`), and `NumericalError`
    when a loss, a gradient or any value of the state is not finite: no event holds such a state.
    """
    events = _fit(
        _Place(state, *so_far),
        train_step,
        eval_step,
        as_split(train),
        None if validation is None else as_split(validation),
        should_stop,
        Rhythm(epochs, batch_size, seed, donate),
    )
    while True:
        with jax.transfer_guard("allow"):  # what is moved here is moved on purpose
            event = next(events, None)
        if event is None:
            return
        yield event


class Rhythm(NamedTuple):
    """How many epochs, in batches of what size, in whose order; whether states are given up."""

    epochs: int
    batch_size: int
    seed: int
    donate: bool


def _fit(
    at: "_Place",
    train_step: TrainStep | InLoops,
    eval_step: EvalStep,
    train: Split,
    validation: Split | None,
    should_stop: Callable[[], bool | str],
    rhythm: Rhythm,
) -> Iterator[Event]:
    state, (epochs, batch_size, seed, donate) = at.state, rhythm
    keep = (lambda state: state) if donate else own
    padded = not jax.tree.leaves(state.model_state)
    score = partial(scored, eval_step, evaluated_params(state), state.model_state)
    with as_lax():  # of shapes alone; those of validation are traced as they are computed
        check_split(train, "train", score=score, batch_size=batch_size)
    if validation is not None:
        rows = rows_at_a_time(len(validation.labels), validation.images.shape[1:])
        check_split(validation, "validation", score=score, batch_size=rows)
    calls_of = calls_from(train, train_step)
    count, copies = examples_in(train), copies_in(train.images)
    steps = steps_per_epoch(count, batch_size)
    begun, done = divmod(at.step, steps)
    if done == 0 and at.train.count:  # stopped between its last step and the end of its evaluation
        begun, done = begun - 1, steps
    for epoch in range(begun, epochs):
        order = epoch_order(seed, epoch, count=count, batch_size=batch_size)
        order = rows_of_copies(order, epoch, count=count, copies=copies)
        with closing(calls_of(order, first=done, padded=padded)) as calls:
            yield from _through(calls, at, epoch, should_stop, keep)
        whole = at.step == (epoch + 1) * steps
        scores = _validate(eval_step, at.state, validation, should_stop) if whole else None
        if scores is None:
            yield Interrupted(at.step, epoch + 1, at.train, at.seconds, at.state)
            return
        yield EpochEnd(at.step, epoch + 1, at.train, scores, at.seconds, at.state)
        done, at.train, at.seconds = 0, Metrics.zero(), 0.0
        if should_stop() is True:
            return


class _Place:
    """Where training is: the state, and its epoch so far."""

    def __init__(self, state: TrainState, train: Metrics, seconds: float) -> None:
        self.state, self.step, self.train, self.seconds = state, int(state.step), train, seconds

    def arrived(self, call: Call, metrics: Metrics, epoch: int) -> Iterator[StepEnd]:
        """The events of the call that led here, whose metrics are waited for."""
        for step, told in enumerate(metrics.each(call.steps), self.step - call.steps + 1):
            refuse_unless_finite(told, f"step {step}")
            self.train += told
            yield StepEnd(step, epoch + 1, told)


def _through(
    calls: Iterable[Call],
    at: _Place,
    epoch: int,
    should_stop: Callable[[], bool | str],
    keep: Callable[[TrainState], TrainState],
) -> Iterator[Event]:
    """Train by `calls`, or to a stop; `at` is then after the last step, and its state finite."""
    at.state, late, started = keep(at.state), None, time.perf_counter() - at.seconds
    for call in calls:
        at.state, metrics = call.advance(at.state)
        if late is not None:
            yield from at.arrived(*late, epoch)
        late, at.step = (call, metrics), at.step + call.steps
        wish = should_stop()
        if wish == SAVE:
            yield from at.arrived(*late, epoch)
            late, at.seconds = None, time.perf_counter() - started
            check_finite(at.state, f"state after step {at.step}")
            yield Midway(at.step, epoch + 1, at.train, at.seconds, at.state)
            at.state, started = keep(at.state), time.perf_counter() - at.seconds
        elif wish:
            break
    if late is not None:
        yield from at.arrived(*late, epoch)
        at.seconds = time.perf_counter() - started
    check_finite(at.state, f"state after step {at.step}")


def _validate(
    eval_step: EvalStep,
    state: TrainState,
    split: Split | None,
    should_stop: Callable[[], bool | str],
) -> Metrics | None:
    """The metrics of `split`; None if told to stop before its end."""
    total = Metrics.zero()
    if split is None:
        return total
    model, model_state = evaluated_params(state), state.model_state
    for metrics, _ in score_batches(eval_step, model, split, model_state=model_state):
        total += metrics
        if should_stop() is True:
            return None
    return total
