"""config.json: which settings a resumed run may change, and how it ages."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Annotated

import pytest

from experiments.config import RunConfig
from experiments.finetune_flags import FinetuneConfig
from experiments.scratch import ScratchConfig
from mnistjax.cli import Before, Config, MayChange, as_flags
from mnistjax.errors import StorageError
from mnistjax.runs.directory import began, check_directory, newest_run
from mnistjax.runs.settings import Setting, check_same_run, settings_of, write_config

# What decides what the next step computes: a resumed run has to have the same.
FIXED = {"train_size", "validation", "batch_size", "accumulate", "seed", "dtype"}
FIXED |= {"learning_rate", "fit", "color", "grey", "class_weights"}
FIXED |= {"seeds"}  # one run stays one; several may become more: test_seeds.py


@pytest.mark.parametrize(
    ("flags", "more"),
    [
        (RunConfig(), set()),
        (
            ScratchConfig(),
            {"preset", "model", "augment", "label_smoothing", "image_size", "pool", "lrn"},
        ),
        (
            FinetuneConfig(),
            {"preset", "image_size", "cut", "weight_decay", "label_smoothing", "head", "unfreeze"}
            | {"stages", "hidden", "dropout", "augment", "copies"},
        ),
    ],
    ids=["shared", "scratch", "finetune"],
)
def test_each_flag_says_whether_resuming_may_change_it(flags, more):
    settings = settings_of(flags)
    assert settings.keys() == {field.name for field in dataclasses.fields(flags)}
    assert {name for name, setting in settings.items() if not setting.may_change} == FIXED | more


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags(Config):
    seed: int = 0
    rate: float = 0.5
    new: str = "today"
    changed: Annotated[str, Before("stretch")] = "crop"
    quiet: MayChange[bool] = False


def made_in(directory: Path, **settings) -> Path:
    directory.mkdir(exist_ok=True)
    write_config(directory, {name: Setting(value) for name, value in settings.items()})
    return directory


def test_a_setting_older_than_a_run_counts_as_what_it_was_then(tmp_path):
    run = made_in(tmp_path, seed=0, rate=0.5)
    check_same_run(run, settings_of(Flags(changed="stretch", quiet=True)))
    with pytest.raises(StorageError, match=r"new tomorrow \(was today\)"):
        check_same_run(run, settings_of(Flags(new="tomorrow", changed="stretch")))
    with pytest.raises(StorageError, match=r"changed crop \(was stretch\).*`changed='stretch'`"):
        check_same_run(run, settings_of(Flags()))


def test_a_run_of_an_older_version_goes_on_whatever_flags_are_new(tmp_path):
    """As written by 0.1.0 before there was `began`, and without `pool`, `lrn` and `color`."""
    settings = {name: s.value for name, s in settings_of(ScratchConfig()).items()}
    for name in ("pool", "lrn", "color", "image_size", "keep", "platform"):
        del settings[name]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    check_same_run(tmp_path, settings_of(ScratchConfig(keep=3)))
    with pytest.raises(StorageError, match=r"pool avg \(was max\)"):
        check_same_run(tmp_path, settings_of(ScratchConfig(pool="avg")))


def test_the_fix_is_said_in_arguments_and_the_command_line_makes_flags_of_them(tmp_path):
    run = made_in(tmp_path, seed=0, rate=0.5, new="today", changed="crop", data="here", sha="aa")
    settings = settings_of(Flags(seed=1, rate=0.25)) | {"sha": Setting("bb", given_by=("data",))}
    with pytest.raises(StorageError) as error:
        check_same_run(run, settings)
    assert error.value.fix == "pass `rate=0.5` `seed=0` `data='here'`"
    assert as_flags(error.value.fix) == "pass --rate 0.5 --seed 0 --data here"


def test_the_newest_run_is_the_one_that_began_last_not_the_one_resumed_last(tmp_path):
    first = made_in(tmp_path / "scratch-20260101-000000", seed=0)
    second = made_in(tmp_path / "scratch-20260101-000001", seed=0)
    assert began(first) < began(second)
    before = began(first)
    write_config(first, {"seed": Setting(0)})  # resumed
    os.utime(second / "config.json", (0, 0))
    assert began(first) == before
    assert newest_run(tmp_path, "scratch") == second


def test_runs_from_before_it_was_written_down_began_when_their_name_says(tmp_path):
    for name in ("scratch-20260301-120000", "scratch-20260201-120000"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert newest_run(tmp_path, "scratch").name == "scratch-20260301-120000"
    older = tmp_path / "scratch-20260201-120000"
    before = began(older)
    write_config(older, {"seed": Setting(0)})  # resumed: from now on it is written down
    assert json.loads((older / "config.json").read_text())["began"] == before
    other = tmp_path / "scratch-mine"
    other.mkdir()
    (other / "config.json").write_text("{}")
    os.utime(other / "config.json", (2e9, 2e9))
    assert newest_run(tmp_path, "scratch") == other
    with pytest.raises(StorageError, match="no earlier run"):
        newest_run(tmp_path, "finetune")


def test_a_directory_with_anything_in_it_is_refused(tmp_path):
    check_directory(tmp_path, resume=False)
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(StorageError, match="not empty"):
        check_directory(tmp_path, resume=False)
