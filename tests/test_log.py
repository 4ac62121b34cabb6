import json
from pathlib import Path

import jax.numpy as jnp
import pytest

from mnistjax.errors import StorageError, UsageError
from mnistjax.runs import log as log_module
from mnistjax.runs.best import best_epoch, by_accuracy
from mnistjax.runs.log import MetricsLog, read_rows
from mnistjax.training.loop import EpochEnd, StepEnd
from mnistjax.training.metrics import Metrics
from mnistjax.training.state import TrainState

NO_STATE = TrainState(jnp.zeros((), jnp.int32), {}, ())


def write(log, steps):
    for step in steps:
        log.add(StepEnd(step, 1, Metrics(2.0, 1, 2)), images_per_second=10.0)


def test_steps_and_epochs_are_rows(tmp_path):
    end = EpochEnd(2, 1, Metrics(2.0, 3, 4), Metrics(1.0, 1, 2), 0.5, NO_STATE)
    with MetricsLog(tmp_path) as log:
        write(log, [1, 2])
        log.add(end, images_per_second=8.0)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["kind"] for row in rows] == ["step", "step", "epoch"]
    assert rows[0] | {"loss": 1.0, "accuracy": 0.5} == rows[0]
    assert rows[2] | {"train_loss": 0.5, "val_loss": 0.5, "val_accuracy": 0.5} == rows[2]
    assert log.epochs == [rows[2]]


def test_resuming_drops_what_came_after_the_checkpoint(tmp_path):
    with MetricsLog(tmp_path) as log:
        write(log, [1, 2, 3, 4])
    with MetricsLog(tmp_path, upto=2) as log:
        write(log, [3])
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2, 3]


def test_an_epoch_to_be_evaluated_again_has_one_row(tmp_path):
    end = EpochEnd(2, 1, Metrics(2.0, 3, 4), Metrics(1.0, 1, 2), 0.5, NO_STATE)
    for evaluated in (True, False):  # killed between the row and its checkpoint, then resumed
        with MetricsLog(tmp_path, upto=2 * (not evaluated), evaluated=evaluated) as log:
            write(log, [1, 2] if evaluated else [])
            log.add(end, images_per_second=8.0)
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["kind"] for row in rows] == ["step", "step", "epoch"]


def test_a_torn_last_line_is_ignored_wherever_it_was_torn(tmp_path):
    with MetricsLog(tmp_path) as log:
        write(log, [1, 2])
    path = tmp_path / "metrics.jsonl"
    whole = path.read_text()
    for cut in range(len(whole)):
        path.write_text(whole[:cut])
        assert [row["step"] for row in read_rows(path)] in ([], [1], [1, 2])


def test_resuming_mends_a_torn_log_wherever_it_was_torn(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(tmp_path) as log:
        write(log, [1, 2, 3, 4])
    whole = path.read_bytes()
    saved_at = whole.index(b"\n", whole.index(b"\n") + 1)  # the checkpoint came after step 2
    for cut in range(saved_at, len(whole)):
        path.write_bytes(whole[:cut])
        with MetricsLog(tmp_path, upto=2) as log:
            write(log, [3, 4])
        assert path.read_bytes() == whole


def test_rows_lost_before_the_checkpoint_are_told(tmp_path, capsys):
    with MetricsLog(tmp_path) as log:
        write(log, [1, 2, 3, 4])
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"step": 3', b'"step"\xff 3'))
    with MetricsLog(tmp_path, upto=4):
        pass
    assert "rows of steps 3 to 4 are lost" in capsys.readouterr().err


def test_a_kill_while_resuming_loses_no_row(tmp_path, monkeypatch):
    def half(path, content):
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise KeyboardInterrupt

    with MetricsLog(tmp_path) as log:
        write(log, [1, 2])
    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        MetricsLog(tmp_path, upto=2)
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_log_that_cannot_be_written_is_told_once(tmp_path, capsys):
    with MetricsLog(tmp_path) as log:
        write(log, [1])
        assert log._file
        log._file.close()
        log._file = Path("/dev/full").open("w")  # noqa: SIM115
        write(log, [2, 3])
        end = EpochEnd(3, 1, Metrics(2.0, 3, 4), Metrics(1.0, 1, 2), 0.5, NO_STATE)
        log.add(end, images_per_second=10.0)
    assert [row["val_loss"] for row in log.epochs] == [0.5]
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "No space left on device" in err


def test_without_an_epoch_there_is_no_best():
    with pytest.raises(StorageError, match="Fix: "):
        best_epoch([])


def test_best_is_the_lowest_validation_loss():
    losses, accuracies = [0.5, 0.2, 0.3], [0.7, 0.8, 0.9]
    rows = [
        {"val_loss": loss, "val_accuracy": accuracy, "epoch": i}
        for i, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True))
    ]
    assert best_epoch(rows)["epoch"] == 1
    assert best_epoch(rows, by_accuracy)["epoch"] == 2


def test_tensorboard_gets_the_rows(tmp_path):
    with MetricsLog(tmp_path, tensorboard=True) as log:
        write(log, [1])
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"step/loss" in events.read_bytes()


def test_tensorboard_missing_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(UsageError, match=r"mnistjax\[tensorboard\]"):
        log_module.MetricsLog(tmp_path, tensorboard=True)
