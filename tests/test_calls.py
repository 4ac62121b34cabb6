"""Several steps in one call, which a GPU or TPU gets: here on a CPU that says it wants them."""

import json
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from mnistjax.data.batches import epoch_order, take_batch
from mnistjax.data.dataset import Split
from mnistjax.errors import NumericalError
from mnistjax.files import params_sha256
from mnistjax.models.functional import functional, functional_with_state
from mnistjax.runs.compiled_step import with_rates
from mnistjax.runs.log import read_rows
from mnistjax.runs.options import RunOptions
from mnistjax.runs.plan import Plan, Stage
from mnistjax.runs.train_run import train_run
from mnistjax.training import calls, loop
from mnistjax.training.calls import MOST, calls_from
from mnistjax.training.evaluate import make_eval_step
from mnistjax.training.loop import SAVE, EpochEnd, Interrupted, Midway, StepEnd
from mnistjax.training.metrics import Metrics
from mnistjax.training.state import init_state
from mnistjax.training.step import make_train_step

fit: Any = loop.fit  # whose events differ in their fields
random = np.random.default_rng(0)
DATA = Split(
    random.integers(0, 256, (203, 6, 6, 1)).astype(np.uint8), np.arange(203, dtype=np.int32) % 3
)


class Net(nnx.Module):
    def __init__(self, rngs, *, norm=False):
        self.dense = nnx.Linear(36, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(36, rngs=rngs) if norm else None

    def __call__(self, x):
        x = x.reshape(len(x), -1)
        return self.dense(x if self.norm is None else self.norm(x))


@pytest.fixture
def wanted(monkeypatch):
    monkeypatch.setattr(calls, "wants_loops", lambda: True)


def parts(norm=False) -> tuple[Any, Any]:
    """A first state and what `fit` needs: 26 steps an epoch, the last of 3 examples."""
    tx = optax.adam(1e-2)
    apply_fn, params, *state = (functional_with_state if norm else functional)(
        Net(nnx.Rngs(0), norm=norm)
    )
    step = make_train_step(apply_fn=apply_fn, tx=tx)
    arguments = {"train_step": step, "eval_step": make_eval_step(apply_fn=apply_fn), "train": DATA}
    return init_state(params, tx, *state), arguments | {"epochs": 2, "batch_size": 8, "seed": 3}


@pytest.mark.parametrize("norm", [False, True])
def test_the_events_are_those_of_steps_called_one_by_one(norm, monkeypatch):
    state, arguments = parts(norm)
    one_by_one = [*fit(state, **arguments)]
    monkeypatch.setattr(calls, "wants_loops", lambda: True)
    in_loops = [*fit(state, **arguments)]
    assert [(type(e), e.step, e.epoch) for e in in_loops] == [
        (type(e), e.step, e.epoch) for e in one_by_one
    ]
    for ours, theirs in zip(in_loops, one_by_one, strict=True):
        ours, theirs = (e.metrics if isinstance(e, StepEnd) else e.train for e in (ours, theirs))
        assert (ours.count, ours.correct) == (theirs.count, theirs.correct)
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
        assert ours.told == pytest.approx(theirs.told, rel=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        in_loops[-1].state,
        one_by_one[-1].state,
    )


@pytest.mark.parametrize("norm", [False, True])
def test_however_many_a_call_has_and_wherever_it_stops_the_bits_are_equal(
    norm, wanted, monkeypatch
):
    state, arguments = parts(norm)
    *_, whole = fit(state, **arguments)
    for most, stop_after in [(1, 1), (4, 5), (MOST, 3), (MOST, 5)]:
        monkeypatch.setattr(calls, "MOST", most)
        asked = count(1)
        *_, stopped = fit(
            state, **arguments, should_stop=lambda a=asked, n=stop_after: next(a) >= n
        )
        assert isinstance(stopped, Interrupted)
        so_far = stopped.train, stopped.train_seconds
        *_, ended = fit(stopped.state, **arguments, so_far=so_far)
        assert params_sha256(ended.state) == params_sha256(whole.state)
        assert ended.train.loss == whole.train.loss


def test_calls_grow_with_the_clock_and_end_with_the_epoch(wanted, monkeypatch):
    now = count(0.0, 1e-3)  # a millisecond from one call to the next, whatever it holds
    monkeypatch.setattr(calls.time, "perf_counter", lambda: next(now))
    order = epoch_order(0, 0, count=203, batch_size=1)
    step = jax.jit(lambda state, batch: (state, Metrics(0.0, 0, 1)))
    sizes = [call.steps for call in calls_from(DATA, step)(order)]
    assert sizes == [1, 1, 2, 4, 8, 16, *[MOST] * 5, 11]
    slow = count(0.0, 3 * calls.SECONDS)
    monkeypatch.setattr(calls.time, "perf_counter", lambda: next(slow))
    assert {call.steps for call in calls_from(DATA, step)(order)} == {1}


def test_a_save_asked_for_comes_at_the_end_of_the_call(wanted):
    state, arguments = parts()
    asked = count(1)
    events = [*fit(state, **arguments, should_stop=lambda: SAVE if next(asked) == 3 else False)]
    places = [i for i, e in enumerate(events) if isinstance(e, Midway)]
    (place,) = places
    assert isinstance(events[place - 1], StepEnd) and events[place - 1].step == events[place].step
    assert params_sha256(events[-1].state) == params_sha256([*fit(state, **arguments)][-1].state)


def test_the_step_that_lost_its_numbers_is_named(wanted):
    state, arguments = parts()
    rate = optax.inject_hyperparams(optax.sgd)(lambda step: jnp.where(step == 9, jnp.inf, 0.1))
    state = init_state(state.params, rate)
    apply_fn, _ = functional(Net(nnx.Rngs(0)))
    arguments["train_step"] = make_train_step(apply_fn=apply_fn, tx=rate)
    with pytest.raises(NumericalError, match="step 11:"):
        for _ in fit(state, **arguments):
            pass


def test_a_step_that_is_more_than_a_program_is_called_each_time(wanted):
    state, arguments = parts()
    called, step = [], arguments["train_step"]

    def counted(state, batch):
        called.append(batch.labels.shape)
        return step(state, batch)

    *_, end = fit(state, **arguments | {"train_step": counted})
    assert isinstance(end, EpochEnd) and len(called) == end.step


def test_images_that_do_not_stay_are_batches_of_the_host(wanted, monkeypatch):
    state, arguments = parts()
    there = [*fit(state, **arguments)][-1]
    monkeypatch.setattr("mnistjax.data.prefetch.fits", lambda size: False)
    *_, end = fit(state, **arguments)
    np.testing.assert_allclose(end.train.loss, there.train.loss, rtol=1e-5)


def test_a_run_saves_stops_and_goes_on_as_one_never_left(tmp_path, monkeypatch):
    monkeypatch.setattr("mnistjax.runs.compiled_step.wants_loops", lambda: True)
    apply_fn, params = functional(Net(nnx.Rngs(0)))

    def run(name, epochs, **options):
        stages = [Stage.by_adam(epochs, 1e-3)]
        plan = Plan(apply_fn=apply_fn, params=params, stages=stages, train=DATA, batch_size=8)
        trained = train_run(plan, tmp_path / name, options=RunOptions(quiet=True, **options))
        rows = read_rows(tmp_path / name / "metrics.jsonl")
        return params_sha256(trained.params), [
            {key: value for key, value in row.items() if "second" not in key} for row in rows
        ]

    run("parts", 1)
    whole = run("whole", 2)
    assert run("parts", 2, resume=True, save_steps=5) == whole
    assert len(whole[1]) == 2 * 27 and all(row["learning_rate"] == 1e-3 for row in whole[1])


def test_an_epoch_at_a_time_compiles_once(wanted):
    state, arguments = parts()
    with pytest.MonkeyPatch.context() as patch:
        made = []
        patch.setattr(calls, "take_batch", lambda *a: made.append(1) or take_batch(*a))
        for epochs in (1, 2, 3):
            *_, end = fit(state, **arguments | {"epochs": epochs})
            state = end.state
    assert end.step == 3 * 26 and len(made) == 2  # traced for its shapes, and in the loop


def test_rates_are_told_by_the_step_they_belong_to():
    state, _ = parts()
    rates = {"learning_rate": np.array([0.5, 0.25], np.float32)}
    events = [
        StepEnd(1, 1, Metrics(1.0, 1, 1, latest={"grad_norm": 2.0})),
        EpochEnd(2, 1, Metrics.zero(), Metrics.zero(), 0.0, state),
    ]
    told: Any = with_rates(iter(events), rates)
    step, epoch = told
    assert step.metrics.latest == {"grad_norm": 2.0, "learning_rate": 0.5}
    assert epoch.train.latest == {"learning_rate": 0.25}
    assert json.dumps(epoch.train.latest)  # as the log does
