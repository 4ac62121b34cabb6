import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from conftest import few_digits_to_test, few_of_mnist

from experiments.finetune import FinetuneConfig, main
from experiments.finetune_run import features_of
from mnistjax import cli
from mnistjax.cache_dir import cache_dir
from mnistjax.data.dataset import Dataset, Split
from mnistjax.errors import UsageError
from mnistjax.rows.file import RowFile
from mnistjax.runs.log import read_rows
from mnistjax.runs.stages_text import Part, parse_stages, trained_blocks
from mnistjax.weights.source import load_weights

pytestmark = pytest.mark.usefixtures("without_pictures")
ROOT = Path(__file__).parent.parent
KEYS = {"weights", "weights_sha256", "image_size", "cut", "feature_cache", "trainable_parameters"}
SMALL = "--train-size", "200", "--batch-size", "20", "--quiet"
EPOCHS = "--epochs", "3"


def finetune(output, *flags):
    argv = ["--dataset", "digits", "--weights", "random", "--output", str(output)]
    return cli.run(FinetuneConfig, main, [*argv, *SMALL, *flags])


def summary(output):
    return json.loads((output / "summary.json").read_text())


@pytest.fixture(scope="module", autouse=True)
def few_to_test():
    with few_digits_to_test(60):
        yield


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Features cached once for the runs of this file, as they are for a user's."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture(autouse=True)
def shared_cache(features, own_cache, monkeypatch):
    monkeypatch.setenv("MNISTJAX_CACHE", str(features))
    assert cache_dir() == features


@pytest.fixture(scope="module")
def whole(tmp_path_factory, features):
    output = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNISTJAX_CACHE", str(features))
        assert finetune(output, *EPOCHS) == 0
    return output


def test_a_run_leaves_what_the_contract_says(whole):
    got = summary(whole)
    assert got.keys() >= KEYS
    assert (got["cut"], got["image_size"], got["weights_sha256"]) == ("block3", 32, "")
    assert got["weights"].startswith("random")
    assert got["trainable_parameters"] == 4096 * 256 + 256 + 2570
    assert got["parameters"] == got["trainable_parameters"] + 2 * 4096 + 1_735_488
    assert got["feature_cache"]["computed"] == got["feature_cache"]["rows"] == 200 + 60
    assert got["test_accuracy"] > 0.85
    page = (whole / "report.html").read_text()
    assert "What the blocks see" in page and "frozen" in page
    assert (whole / "figures" / "what_the_blocks_see.png").stat().st_size > 10_000


def test_the_second_run_finds_its_features_and_gives_the_same_bits(whole, tmp_path):
    assert finetune(tmp_path / "run", *EPOCHS) == 0
    assert summary(tmp_path / "run")["feature_cache"]["computed"] == 0
    assert summary(tmp_path / "run")["params_sha256"] == summary(whole)["params_sha256"]


@pytest.mark.soak
def test_without_the_cache_the_result_is_the_same_to_rounding(whole, tmp_path):
    assert finetune(tmp_path / "run", *EPOCHS, "--no-cache-features") == 0
    ours, cached = summary(tmp_path / "run"), summary(whole)
    assert ours["feature_cache"] == {"used": False}
    np.testing.assert_allclose(ours["test_loss"], cached["test_loss"], rtol=1e-3)
    rows = [read_rows(run / "metrics.jsonl") for run in (tmp_path / "run", whole)]
    losses = [[row["val_loss"] for row in r if row["kind"] == "epoch"] for r in rows]
    np.testing.assert_allclose(*losses, rtol=1e-3)


@pytest.mark.soak
def test_features_in_bfloat16_are_others(whole, tmp_path):
    assert finetune(tmp_path / "run", *EPOCHS, "--dtype", "bfloat16") == 0
    got = summary(tmp_path / "run")
    assert got["feature_cache"]["computed"] == 200 + 60
    assert got["test_accuracy"] > summary(whole)["test_accuracy"] - 0.1


def test_features_larger_than_the_limit_are_not_kept(features, capsys):
    split = Split(np.zeros((100, 28, 28, 1), np.uint8), np.zeros(100, np.int32))
    data = Dataset("black", train=split, test=split, class_names=("zero",), origin="made up")
    config = FinetuneConfig(cache_limit=0.001, validation=0.0)
    weights = load_weights("random", cut="block3")
    got = features_of(config, weights, ["block1"], data, split)
    assert got.train is got.examples is split and "the cache's limit" in got.facts["why"]
    out = capsys.readouterr().out
    assert "not cached" in out and "--cache-limit" in out


def test_a_signal_while_features_are_extracted_keeps_those_done(
    whole, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MNISTJAX_CACHE", str(tmp_path / "cache"))
    append, signals = RowFile.append, iter([signal.SIGTERM])

    def interrupted(self, rows):
        for number in signals:  # once: a second one would end this process
            os.kill(os.getpid(), number)
        append(self, rows)

    with monkeypatch.context() as patch:  # in the training images' one batch, the last of them
        patch.setattr(RowFile, "append", interrupted)
        assert finetune(tmp_path / "run", *EPOCHS) == 143
    out, err = capsys.readouterr()
    assert (out, err) == ("", "interrupted: features of 200 images are kept. Fix: run it again\n")
    assert not (tmp_path / "run").exists()
    assert finetune(tmp_path / "run", *EPOCHS) == 0
    assert summary(tmp_path / "run")["feature_cache"]["computed"] == 60
    assert summary(tmp_path / "run")["params_sha256"] == summary(whole)["params_sha256"]


def test_a_cache_that_cannot_be_written_is_no_reason_not_to_train(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MNISTJAX_CACHE", str(tmp_path / "file"))
    split = Split(np.zeros((2, 28, 28, 1), np.uint8), np.zeros(2, np.int32))
    data = Dataset("black", train=split, test=split, class_names=("zero",), origin="made up")
    weights = load_weights("random", cut="block3")
    got = features_of(FinetuneConfig(validation=0.0), weights, ["block1"], data, split)
    assert got.train is split and "Not a directory" in got.facts["why"]
    assert "not cached" in capsys.readouterr().out


STAGES = "--stages", "head:1,block3:1@1e-4", "--train-size", "100"


def test_stages_and_a_resumed_stage_equals_one_never_left(tmp_path, signal_at):
    assert finetune(tmp_path / "whole", *STAGES) == 0
    got = summary(tmp_path / "whole")
    assert (got["unfrozen"], got["epochs"]) == ("block3", 2)
    assert got["trainable_parameters"] > 1_400_000 + 1_000_000
    assert got["feature_cache"]["bytes"] == (100 + 60) * 8 * 8 * 128 * 4  # block 2's map
    run = tmp_path / "run"
    with signal_at(7):  # in the second stage
        assert finetune(run, *STAGES) == 143
    assert finetune(run, *STAGES, "--resume") == 0
    assert summary(run)["params_sha256"] == got["params_sha256"]


def test_resume_refuses_other_weights(whole, tmp_path, capsys):
    from mnistjax.weights.safetensors import write_safetensors

    other = load_weights("random", cut="block3", seed=5).params
    write_safetensors(tmp_path / "w.safetensors", other, source_sha256="0" * 64, origin="test")
    argv = ["--dataset", "digits", "--weights", str(tmp_path / "w.safetensors"), "--resume"]
    argv += ["--output", str(whole), *SMALL, *EPOCHS]
    assert cli.run(FinetuneConfig, main, argv) == 5
    assert "pass --weights random" in capsys.readouterr().err


REFUSED = [
    ("--weights imagnet", 2, "did you mean imagenet?"),
    ("--weights nowhere.h5", 4, "nowhere.h5"),
    ("--cut block2", 2, "--cut block2"),
    ("--head gpa", 2, "did you mean gap?"),
    ("--image-size 31", 2, "at least 32"),
    ("--preset kears", 2, "did you mean keras?"),
    ("--unfreeze block4", 2, "--unfreeze block4"),
    ("--stages block3:2", 2, "the head comes first"),
    ("--stages head:0", 2, "epochs from 1"),
    ("--stages head", 2, "is not NAME:EPOCHS"),
    ("--stages head:1 --epochs 3", 2, "drop --epochs"),
    ("--cache-limit 0", 2, "must be a positive number"),
]


@pytest.mark.parametrize(("argv", "code", "says"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refused_in_one_line(argv, code, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = ["--dataset", "digits", *argv.split()]
    assert cli.run(FinetuneConfig, main, flags) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("error: ") and "Fix: " in err and says in err
    assert not list(tmp_path.iterdir())


def test_offline_auto_weights_are_random_and_say_so_everywhere(tmp_path, monkeypatch, capsys):
    from mnistjax.errors import NetworkError
    from mnistjax.weights import official

    def offline(*_, **__):
        raise NetworkError("download", "no connection", fix="-")

    monkeypatch.setattr(official, "official_file", offline)
    argv = ["--dataset", "digits", "--output", str(tmp_path / "run"), "--epochs", "1"]
    argv += ["--train-size", "100", "--batch-size", "20"]
    assert cli.run(FinetuneConfig, main, argv) == 0
    assert "NOTE" in capsys.readouterr().out
    assert "random" in summary(tmp_path / "run")["notice"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "random" in page.split('class="notice"')[1].split("</div>")[0]


def test_stages_are_parsed():
    assert parse_stages("head:3, block2:2@1e-5", "block3") == [
        Part("head", 3, None),
        Part("block2", 2, 1e-5),
    ]
    assert trained_blocks(["block2"], "block3") == ["block2", "block3"]
    with pytest.raises(UsageError, match="block4"):
        parse_stages("head:1,block4:1", "block3")


def test_real_weights_on_real_mnist(mnist_dir, vgg16_file, tmp_path):
    few = few_of_mnist(mnist_dir, tmp_path / "few", train=300, test=60)
    argv = [*few, "--weights", str(vgg16_file)]
    argv += ["--output", str(tmp_path / "run"), "--epochs", "10", "--quiet"]
    assert cli.run(FinetuneConfig, main, argv) == 0
    assert summary(tmp_path / "run")["test_accuracy"] > 0.85
