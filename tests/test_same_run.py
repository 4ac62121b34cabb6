"""Resuming continues exactly the run that is there: what people ran into, and the right values."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mnistjax as mj
from experiments.scratch import ScratchConfig, main
from mnistjax import cli
from mnistjax.data.batches import epoch_order
from mnistjax.data.dataset import Split
from mnistjax.errors import UsageError
from mnistjax.files import params_sha256
from mnistjax.runs import checkpoint as checkpoint_module
from mnistjax.runs import snapshot
from mnistjax.runs.best import last
from mnistjax.runs.checkpoint import Checkpoints
from mnistjax.runs.finetune_recipes import RECIPES
from mnistjax.runs.finetune_stages import epochs_setting
from mnistjax.runs.log import read_rows
from mnistjax.runs.options import RunOptions
from mnistjax.runs.plan import Plan, Stage
from mnistjax.runs.settings import Setting, check_same_run, write_config
from mnistjax.runs.train_run import train_run

random = np.random.default_rng(0)
RULE = random.standard_normal((9, 4))


def split(count):
    images = random.integers(0, 256, (count, 3, 3, 1)).astype(np.uint8)
    return Split(images, ((images.reshape(count, 9) / 255 - 0.5) @ RULE).argmax(1).astype("int32"))


TRAIN, VALIDATION = split(50), split(40)


def linear(params, images):
    return images.reshape(len(images), -1) @ params["kernel"]


def plan(epochs=9, *, rate=3.0, **more):
    given: dict[str, Any] = {"validation": VALIDATION, "batch_size": 10} | more
    return Plan(
        apply_fn=linear,
        params={"kernel": jnp.zeros((9, 4))},
        stages=[Stage(epochs, optax.adam(rate))],
        train=TRAIN,
        **given,
    )


def run(directory, given, *, resume=False, **options):
    return train_run(given, directory, options=RunOptions(quiet=True, resume=resume, **options))


def rows_of(directory):
    return [
        {k: v for k, v in row.items() if "second" not in k}
        for row in read_rows(directory / "metrics.jsonl")
    ]


def scratch(directory, *argv):
    return cli.run(ScratchConfig, main, ["--output", str(directory), "--quiet", *argv])


@pytest.mark.usefixtures("without_pictures")
def test_what_is_not_given_is_as_the_run_was_made_with(tmp_path, capsys, signal_at):
    small = "--dataset", "digits", "--train-size", "100", "--batch-size", "30", "--seed", "3"
    made = *small, "--epochs", "2", "--learning-rate", "0.01", "--pool", "avg", "--lrn"
    assert scratch(tmp_path / "whole", *made) == 0
    with signal_at(3):
        assert scratch(tmp_path / "run", *made) == 143
    printed = capsys.readouterr().err.split("Fix: ")[1]
    assert printed.startswith("python -m experiments.scratch --resume --output ")
    argv = printed.removesuffix(" goes on\n").split(" ")[3:]
    assert cli.run(ScratchConfig, main, [*argv, "--quiet"]) == 0
    whole, resumed = (
        json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "run")
    )
    assert resumed["params_sha256"] == whole["params_sha256"]
    assert (resumed["epochs"], resumed["learning_rate"]) == (2, 0.01)
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")
    assert scratch(tmp_path / "run", "--resume", "--seed", "4") == 5
    assert "seed 4 (was 3)" in capsys.readouterr().err


@pytest.mark.parametrize("lost", [False, True], ids=["finished", "killed after its last save"])
def test_early_stopping_is_part_of_the_run(tmp_path, monkeypatch, lost):
    whole = run(tmp_path, plan(early_stopping=2))
    steps = whole.epochs[-1]["step"]
    assert steps < 9 * 5
    if lost:  # as a kill between the save and the end leaves it
        (tmp_path / "summary.json").unlink(missing_ok=True)
    again = run(tmp_path, plan(early_stopping=2), resume=True)
    assert [row["epoch"] for row in again.epochs] == [row["epoch"] for row in whole.epochs]
    assert params_sha256(again.params) == params_sha256(whole.params)
    more = run(tmp_path, plan(early_stopping=20), resume=True)
    assert more.epochs[-1]["step"] == 9 * 5


def test_a_longer_schedule_is_told(tmp_path, capsys):
    falls = "the rate falls over all epochs"
    write_config(tmp_path, {"epochs": Setting(3, may_change=True, told=falls)})
    check_same_run(tmp_path, {"epochs": Setting(3, may_change=True, told=falls)})
    assert capsys.readouterr().err == ""
    check_same_run(tmp_path, {"epochs": Setting(5, may_change=True, told=falls)})
    warning = f"warning: resuming {tmp_path}: epochs 5 (was 3): {falls}\n"
    assert capsys.readouterr().err == warning


def test_fine_tuning_with_a_falling_rate_tells_what_more_epochs_do():
    small, keras = RECIPES["small"], RECIPES["keras"]
    assert "falls to 0 over all epochs" in epochs_setting(20, small, in_stages=False).told
    assert epochs_setting(20, keras, in_stages=False) == Setting(20, may_change=True)
    assert epochs_setting(20, small, in_stages=True) == Setting(None, may_change=True)


PRINTS_ORDER = """
import sys, jax
for setting in sys.argv[1:]:
    name, value = setting.split("=")
    jax.config.update(name, {"True": True, "False": False}.get(value, value))
import numpy as np
from mnistjax.data.batches import epoch_order
from mnistjax.training.randomness import step_key
order = np.asarray(epoch_order(0, 1, count=1000, batch_size=64))
print(hash(order.tobytes()), jax.random.key_data(step_key(0, 3)).tolist())
"""


def test_no_setting_of_jax_changes_the_order_of_examples():
    others = (
        (),
        ("jax_default_prng_impl=rbg",),
        ("jax_threefry_partitionable=False",),
        ("jax_enable_x64=True",),
    )
    orders = {
        subprocess.run(
            [sys.executable, "-c", PRINTS_ORDER, *settings],
            env=os.environ | {"PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for settings in others
    }
    assert len(orders) == 1
    order = np.asarray(epoch_order(0, 1, count=1000, batch_size=64)).ravel()
    assert sorted(order[order < 1000]) == list(range(1000))


def test_settings_of_jax_that_change_bits_are_told(tmp_path, capsys):
    with jax.default_matmul_precision(None):  # a GPU's tests have another
        write_config(tmp_path, {})
    old = json.loads((tmp_path / "config.json").read_text())
    with jax.threefry_partitionable(False), jax.default_matmul_precision("bfloat16"):
        check_same_run(tmp_path, {})
    told = capsys.readouterr().err
    assert "jax_threefry_partitionable False (was True)" in told
    assert "jax_default_matmul_precision bfloat16 (was None)" in told
    for name in [name for name in old["made_with"] if name.startswith("jax_")]:
        del old["made_with"][name]  # as of a run before they were written down
    (tmp_path / "config.json").write_text(json.dumps(old))
    check_same_run(tmp_path, {})
    assert capsys.readouterr().err == ""


def state_of(step):
    return mj.init_state({"w": jnp.full(3, float(step))}, optax.sgd(0.1))


@pytest.mark.parametrize("renames", [0, 1])
def test_a_step_saved_twice_is_never_lost(tmp_path, monkeypatch, renames):
    """Killed between the two renames, or before both: the new one, sealed, or the old one."""
    with Checkpoints(tmp_path) as saves:
        saves.save(4, state_of(1), extra={})
    rename = checkpoint_module.Path.rename
    left = renames

    def killed(path, target):
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        return rename(path, target)

    saves = Checkpoints(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint_module.Path, "rename", killed)
        saves.save(4, state_of(2), extra={})
    with Checkpoints(tmp_path) as saves:
        saved = saves.newest(like=lambda _: state_of(0))
        assert saves.steps == [4]
    assert saved and saved.state.params["w"][0] == (2 if renames else 1)
    assert [path.name for path in tmp_path.iterdir()] == ["4"]


def test_what_was_not_sealed_is_not_taken_for_a_save(tmp_path):
    with Checkpoints(tmp_path) as saves:
        saves.save(4, state_of(1), extra={})
        snapshot.write(tmp_path / "9.unfinished", 9, state_of(2), extra={}, score=None)
    with Checkpoints(tmp_path) as saves:
        assert saves.steps == [4]
    snapshot.write(tmp_path / "9.unfinished", 9, state_of(2), extra={}, score=None)
    files = (path for path in (tmp_path / "9.unfinished").rglob("*") if path.is_file())
    damaged = next(path for path in files if path.name != snapshot.DIGESTS)
    damaged.write_bytes(b"half")
    with Checkpoints(tmp_path) as saves:
        assert saves.steps == [4]


@pytest.mark.parametrize("name", ["[run]", "a]b[c", "a\\b", "50%#?*", "ü 雪"])
def test_any_path_works(tmp_path, name):
    place = tmp_path / name / "run"
    whole = run(place, plan(2))
    assert whole.epochs[-1]["step"] == 10
    longer = run(place, plan(3), resume=True)
    assert longer.epochs[-1]["step"] == 15
    np.testing.assert_array_equal(
        Checkpoints(place / "checkpoints").model(longer.best["step"])[0]["kernel"],
        longer.params["kernel"],
    )


def test_a_place_that_cannot_be_read_back_is_told_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "load", lambda *_, **__: 1 / 0)
    with pytest.raises(mj.MnistjaxError, match=r"checkpoints: ZeroDivisionError.*Fix: ") as error:
        run(tmp_path, plan(2))
    assert error.value.exit_code == 5
    assert not [*tmp_path.glob("checkpoints/[0-9]*")]


@pytest.mark.parametrize("every", [{"save_steps": 3}, {"save_minutes": 1e-9}])
def test_saves_within_an_epoch_change_no_bit(tmp_path, monkeypatch, every):
    whole = run(tmp_path / "whole", plan(2))
    saved, save = [], Checkpoints.save

    def note(self, step, *arguments, **named):
        saved.append(step)
        save(self, step, *arguments, **named)
        if step == 6:
            raise KeyboardInterrupt  # a kill: nothing after it is done

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoints, "save", note)
        run(tmp_path / "run", plan(2), **every)
    assert saved == ([3, 5, 6] if "save_steps" in every else [1, 2, 3, 4, 5, 5, 6])
    resumed = run(tmp_path / "run", plan(2), resume=True)
    assert params_sha256(resumed.params) == params_sha256(whole.params)
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")


def test_sigusr1_saves_and_goes_on(tmp_path, monkeypatch, signal_at):
    saved, save = [], Checkpoints.save

    def note(self, step, *arguments, **named):
        saved.append(step)
        save(self, step, *arguments, **named)

    before = signal.getsignal(signal.SIGUSR1)
    monkeypatch.setattr(Checkpoints, "save", note)
    with signal_at(2, signal.SIGUSR1):
        trained = run(tmp_path, plan(1))
    assert saved == [3, 5] and trained.epochs[-1]["step"] == 5
    assert signal.getsignal(signal.SIGUSR1) == before


def test_without_a_validation_split_the_last_epoch_is_taken(tmp_path):
    trained = run(tmp_path, plan(3, validation=None))
    assert trained.best["epoch"] == 3
    assert not [key for key in trained.best if key.startswith("val_")]
    assert plan(validation=None).chooses is last
    with pytest.raises(UsageError, match="nothing is held out"):
        plan(validation=None, early_stopping=1)


def test_every_nth_step_is_logged_and_a_resumed_log_is_whole(tmp_path, capsys):
    run(tmp_path, plan(1), log_every=4)
    assert [row["step"] for row in rows_of(tmp_path)] == [4, 5]
    run(tmp_path, plan(2), resume=True, log_every=4)
    assert [row["step"] for row in rows_of(tmp_path)] == [4, 5, 8, 10]
    assert capsys.readouterr().err == ""
