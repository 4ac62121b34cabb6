"""Signals at planted points of a run: it stops there, saves once, and goes on to the same bits."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.core import Tracer

from mnistjax.data.dataset import Split
from mnistjax.errors import Stopped
from mnistjax.files import params_sha256
from mnistjax.runs import compiled_step
from mnistjax.runs import train_run as train_module
from mnistjax.runs.checkpoint import Checkpoints
from mnistjax.runs.log import read_rows
from mnistjax.runs.options import RunOptions
from mnistjax.runs.plan import Plan, Stage
from mnistjax.runs.settings import Setting
from mnistjax.runs.train_run import train_run

EPOCH = 5  # steps
random = np.random.default_rng(0)
RULE = random.standard_normal((9, 4))


def split(count):
    images = random.integers(0, 256, (count, 3, 3, 1)).astype(np.uint8)
    scores = (images.reshape(count, 9) / 255 - 0.5) @ RULE
    return Split(images, scores.argmax(axis=1).astype(np.int32))


TRAIN, VALIDATION = split(10 * EPOCH), split(1200)  # three batches to evaluate


def apply_fn(params, images):
    return images.reshape(len(images), -1) @ params["kernel"]


def run(directory, *, resume=False):
    """Two stages of two epochs each, of other optimisers; the second makes it worse."""
    plan = Plan(
        apply_fn=apply_fn,
        params={"kernel": jnp.zeros((9, 4))},
        stages=[Stage(2, optax.sgd(0.5, momentum=0.5)), Stage(4, optax.adam(3.0))],
        train=TRAIN,
        validation=VALIDATION,
        batch_size=10,
    )
    options = RunOptions(quiet=True, resume=resume, again="this")
    return train_run(plan, directory, settings={"seed": Setting(0)}, options=options)


def rows_of(directory):
    rows = read_rows(directory / "metrics.jsonl")
    return [{k: v for k, v in row.items() if "second" not in k} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    trained = run(directory)
    assert trained.best["step"] == 2 * EPOCH
    return trained, rows_of(directory)


class Once:
    """Calls `fn`, and at its call number `at` sends this process a signal first.

    Calls that only ask for shapes, as `fit` does at its start, do not count.
    """

    def __init__(self, fn: Callable[..., Any], number: int, at: int) -> None:
        self.fn, self.number, self.at, self.calls = fn, number, at, 0

    def __call__(self, *arguments, **named):
        shapes = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arguments))
        self.calls += not shapes
        if self.calls == self.at and not shapes:
            os.kill(os.getpid(), self.number)
        return self.fn(*arguments, **named)


def plant(monkeypatch, phase, number, at):
    """The steps saved, and the batches evaluated, of the run to come."""
    compile_for, make_eval_step = compiled_step.compile_for, train_module.make_eval_step
    saves, evaluated = [], []

    def save(self, step, *arguments, **named):
        saves.append(step)
        really(self, step, *arguments, **named)

    really = Checkpoints.save
    if phase == "save":
        really = Once(really, number, at)
    monkeypatch.setattr(Checkpoints, "save", save)
    if phase == "compile":
        monkeypatch.setattr(compiled_step, "compile_for", Once(compile_for, number, at))
    if phase == "step":
        steps = Once(compile_for, number, at)

        def compiled(*arguments):
            steps.fn, seconds = compile_for(*arguments)
            return steps, seconds

        monkeypatch.setattr(compiled_step, "compile_for", compiled)

    def make(**given):
        step = Once(make_eval_step(**given), number, at if phase == "evaluation" else 0)
        evaluated.append(step)
        return step

    monkeypatch.setattr(train_module, "make_eval_step", make)
    return saves, evaluated


@pytest.mark.parametrize(
    ("phase", "at", "stops_after"),
    [
        ("compile", 1, 1),  # the step it was for is taken, then it stops
        ("compile", 2, 2 * EPOCH + 1),
        ("step", 3, 3),
        ("step", EPOCH, EPOCH),  # the epoch's last one: its evaluation is left for later
        ("evaluation", 2, EPOCH),
        ("evaluation", 3 + 3, 2 * EPOCH),  # the last batch of a stage
        ("evaluation", 2 * 3 + 1, 3 * EPOCH),
        ("save", 1, EPOCH),
        ("save", 4, 4 * EPOCH),  # of the last state of all
    ],
)
def test_it_stops_at_once_saves_once_and_goes_on_to_the_same_bits(
    whole, tmp_path, monkeypatch, capsys, phase, at, stops_after
):
    number, code = (signal.SIGINT, 130) if at == 2 else (signal.SIGTERM, 143)
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        saves, evaluated = plant(patch, phase, number, at)
        with pytest.raises(Stopped) as stopped:
            run(tmp_path)
    assert (stopped.value.signal, stopped.value.exit_code) == (number, code)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    out, err = capsys.readouterr()
    assert out == err == ""
    assert str(stopped.value) == f"interrupted: step {stops_after} is saved. Fix: this goes on"
    epochs = [EPOCH * n for n in range(1, 5) if EPOCH * n < stops_after]
    assert saves == [*epochs, stops_after]
    if phase == "evaluation":  # the batch in hand, and the one after an epoch's first
        assert evaluated[0].calls == at + (at % 3 == 1)

    trained, rows = run(tmp_path, resume=True), rows_of(tmp_path)
    assert params_sha256(trained.params) == params_sha256(whole[0].params)
    assert rows == whole[1]


SECOND = """
import os, signal
from mnistjax.runs.signals import StopSignals
with StopSignals() as stop:
    os.kill(os.getpid(), signal.{first})
    print(stop.number, flush=True)
    try:
        os.kill(os.getpid(), signal.{second})
        print("went on")
    except KeyboardInterrupt:
        print("at once")
"""


@pytest.mark.parametrize(
    ("first", "second", "says", "code"),
    [
        ("SIGTERM", "SIGTERM", "15", -15),
        ("SIGINT", "SIGTERM", "2", -15),
        ("SIGINT", "SIGINT", "2 at once", 0),
        ("SIGTERM", "SIGINT", "15 at once", 0),
    ],
)
def test_the_second_signal_acts_at_once(first, second, says, code):
    command = [sys.executable, "-c", SECOND.format(first=first, second=second)]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert (done.stdout.split(), done.returncode) == (says.split(), code), done.stderr
