import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from experiments.scratch import ScratchConfig, main
from mnistjax import cli
from mnistjax.runs.log import read_rows
from mnistjax.training.batch_size import usual_epochs

pytestmark = pytest.mark.usefixtures("without_pictures")
ROOT = Path(__file__).parent.parent
KEYS = {"experiment", "dataset", "dataset_sha256", "train_examples", "test_examples"}
KEYS |= {"test_accuracy", "test_loss", "epochs", "parameters", "trainable_parameters"}
KEYS |= {"train_seconds", "compile_seconds", "images_per_second", "params_sha256", "seed"}
KEYS |= {"platform", "device_kind", "versions"}
SMALL = "--train-size", "300", "--batch-size", "20"
EPOCHS = "--epochs", "4"  # of 14 steps each


def scratch(output, *flags, dataset="digits"):
    argv = ["--dataset", dataset, "--output", str(output), *flags]
    return cli.run(ScratchConfig, main, argv)


def summary(output):
    return json.loads((output / "summary.json").read_text())


def without_times(rows):
    return [{k: v for k, v in row.items() if "second" not in k} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "run"
    assert scratch(output, *SMALL, *EPOCHS, "--debug") == 0
    return output


def test_a_run_leaves_what_the_contract_says(whole):
    assert summary(whole).keys() >= KEYS
    assert summary(whole)["test_examples"] == 360
    assert summary(whole)["parameters"] == 225_034
    assert summary(whole)["epochs"] == 4
    assert summary(whole)["test_accuracy"] > 0.85
    assert json.loads((whole / "config.json").read_text())["batch_size"] == 20
    assert [row["epoch"] for row in read_rows(whole / "metrics.jsonl") if "val_loss" in row] == [
        *range(1, 5)
    ]
    assert (whole / "report.html").stat().st_size > 10_000
    assert {path.suffix for path in (whole / "figures").iterdir()} == {".png"}
    assert sorted(int(path.name) for path in (whole / "checkpoints").iterdir())[-1] == 4 * 14


def test_twice_gives_the_same_bits_and_says_so(whole, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"])  # to which --deterministic adds
    assert scratch(tmp_path / "again", *SMALL, *EPOCHS, "--quiet", "--deterministic") == 0
    assert summary(tmp_path / "again")["params_sha256"] == summary(whole)["params_sha256"]
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and f"parameters {summary(whole)['params_sha256'][:12]}" in out


@pytest.mark.soak
def test_killed_and_resumed_equals_uninterrupted(whole, tmp_path):
    """From outside, once; test_signals.py has both signals at every point, inside one process."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "experiments.scratch", "--dataset", "digits"]
    command += ["--output", str(run), *SMALL, *EPOCHS]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, stdout=-3)
    while process.poll() is None and not read_rows(run / "metrics.jsonl"):
        time.sleep(0.002)  # until the first step is told
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("interrupted: step ") and "--resume" in err
    stopped_at = int(err.split("step ")[-1].split()[0])
    assert stopped_at < 4 * 14
    assert not (run / "summary.json").exists()

    assert scratch(run, *SMALL, *EPOCHS, "--resume", "--quiet") == 0
    assert summary(run)["params_sha256"] == summary(whole)["params_sha256"]
    rows = [read_rows(path / "metrics.jsonl") for path in (run, whole)]
    assert without_times(rows[0]) == without_times(rows[1])


def test_resume_refuses_another_configuration(whole, capsys):
    assert (
        scratch(whole, "--resume", "--train-size", "300", "--batch-size", "64", "--seed", "1") == 5
    )
    err = capsys.readouterr().err
    assert "batch_size 64 (was 20)" in err and "pass --batch-size 20 --seed 0" in err


@pytest.mark.soak
def test_bfloat16_learns_and_belongs_to_the_run(whole, tmp_path, capsys):
    run = tmp_path / "run"
    assert scratch(run, *SMALL, *EPOCHS, "--quiet", "--dtype", "bfloat16") == 0
    assert summary(run)["dtype"] == "bfloat16" and summary(run)["test_accuracy"] > 0.85
    assert summary(run)["params_sha256"] != summary(whole)["params_sha256"]
    assert scratch(run, *SMALL, "--dtype", "float32", "--resume") == 5
    assert "dtype float32 (was bfloat16)" in capsys.readouterr().err


def test_resume_refuses_other_data(whole, tmp_path, tiny_idx_dir, capsys):
    flags = "--data-dir", str(tiny_idx_dir), "--allow-unverified-data"
    same = "--train-size", "40", "--batch-size", "20", "--validation", "0.5", "--quiet"
    assert scratch(tmp_path / "run", "--epochs", "1", *same) == 0
    assert scratch(tmp_path / "run", "--resume", *same, *flags, dataset="mnist") == 5
    assert "--dataset digits" in capsys.readouterr().err


def test_a_batch_larger_than_the_data_leaves_nothing_behind(tmp_path, capsys):
    assert scratch(tmp_path / "run", "--train-size", "200", "--batch-size", "256") == 2
    assert "pass --batch-size 128" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_learning_rate_that_explodes_is_told_in_one_line(tmp_path, capsys):
    assert scratch(tmp_path / "run", *SMALL, "--learning-rate", "1e30", "--quiet") == 6
    err = capsys.readouterr().err
    assert (
        err.startswith("error: step 2: ") and "at --learning-rate 1e+30; nothing was saved" in err
    )
    assert not [*(tmp_path / "run" / "checkpoints").iterdir()]


def test_validation_and_test_images_of_a_small_set_share_a_program(tmp_path, caplog):
    with jax.log_compiles():
        assert scratch(tmp_path / "run", "--epochs", "1", "--quiet") == 0
    compiled = [said for said in caplog.messages if said.startswith("Compiling jit(eval_step)")]
    assert len(compiled) == 1


def test_early_stopping_stops(tmp_path):
    flags = "--train-size", "100", "--batch-size", "10", "--learning-rate", "0.05"
    assert scratch(tmp_path / "run", *flags, "--early-stopping", "1", "--quiet") == 0
    epochs = [r["val_loss"] for r in read_rows(tmp_path / "run/metrics.jsonl") if "val_loss" in r]
    assert len(epochs) < 50
    assert epochs[-1] >= min(epochs[:-1])
    assert summary(tmp_path / "run")["best_epoch"] == len(epochs) - 1


def test_an_unwritable_output_is_a_storage_error(tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert scratch(tmp_path / "run", "--quiet") == 5
    assert "Permission denied" in capsys.readouterr().err


def test_offline_auto_says_so_everywhere(tmp_path, monkeypatch, capsys):
    from mnistjax.data import tfds
    from mnistjax.errors import NetworkError

    def offline(*_, **__):
        raise NetworkError("download", "no connection", fix="-")

    monkeypatch.setattr(tfds, "load_tfds", offline)
    run = tmp_path / "run"
    assert scratch(run, *SMALL, "--epochs", "1", dataset="auto") == 0
    assert "not MNIST" in capsys.readouterr().out
    assert summary(run)["dataset"] == "digits"
    assert "not MNIST" in summary(run)["notice"]
    assert "not MNIST" in (run / "report.html").read_text()
    assert scratch(tmp_path / "strict", dataset="mnist") == 3


def test_your_own_folder_of_colour_images(tmp_path):
    from PIL import Image

    for name, color in [("red", (200, 0, 0)), ("<blue>", (0, 0, 200))]:
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (20 + i, 30), color).save(tmp_path / "data" / name / f"{i}.png")
    flags = "--data-dir", str(tmp_path / "data"), "--color", "--image-size", "16", "--epochs", "2"
    assert scratch(tmp_path / "run", *flags, "--batch-size", "4", "--quiet", dataset="auto") == 0
    assert summary(tmp_path / "run")["test_accuracy"] == 1.0
    assert "&lt;blue&gt;" in (tmp_path / "run" / "report.html").read_text()


def test_usual_epochs():
    assert usual_epochs(54_000, 128) == 5
    assert usual_epochs(1_293, 128) == 46
    assert usual_epochs(10, 10) == 50


@pytest.mark.soak
def test_real_mnist_learns(mnist_dir, tmp_path):
    flags = (
        "--data-dir",
        str(mnist_dir),
        "--train-size",
        "2000",
        "--epochs",
        "1",
        "--batch-size",
        "20",
    )
    assert scratch(tmp_path / "run", *flags, "--quiet", dataset="auto") == 0
    assert summary(tmp_path / "run")["dataset"] == "mnist"
    assert summary(tmp_path / "run")["test_examples"] == 10_000
    assert summary(tmp_path / "run")["test_accuracy"] > 0.85
