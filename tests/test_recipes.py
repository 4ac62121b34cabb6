"""Networks by name and presets: trained by the command line, loaded again, refused in one line."""

import json
import re

import jax
import numpy as np
import pytest
from conftest import few_digits_to_test
from finished_runs import scratch_run
from flax import nnx

import mnistjax as mj
from experiments.scratch import ScratchConfig, main
from mnistjax import cli
from mnistjax.files import versions
from mnistjax.models.functional import functional_with_state
from mnistjax.models.named import NETWORKS, new_network
from mnistjax.runs.archive import ARCHIVE, write_archive
from mnistjax.runs.log import read_rows
from mnistjax.runs.recipes import MODELS, RECIPES, WHY
from mnistjax.runs.train import as_functions

pytestmark = pytest.mark.usefixtures("without_pictures")


def test_presets_name_networks_there_are_and_say_why():
    assert {"small", *NETWORKS} == {*MODELS} and RECIPES.keys() == WHY.keys()
    assert {recipe.model for recipe in RECIPES.values()} <= {*MODELS}


def deep_run():
    few = "--train-size", "60", "--batch-size", "20", "--epochs", "1", "--validation", "0"
    with few_digits_to_test(40) as digits:
        flags = "--dataset", "digits", "--model", "deep", "--augment", "strong", *few
        return digits, scratch_run(*flags)


def test_a_deep_network_with_augmentation_is_trained_and_loaded():
    digits, run = deep_run()
    got = mj.load(run.directory).logits(digits.test.images)
    np.testing.assert_allclose(got, run.logits, rtol=1e-4, atol=1e-5)
    said = {name: run.summary[name] for name in ("preset", "model", "augment", "label_smoothing")}
    assert said == {
        "preset": "standard",
        "model": "deep",
        "augment": "strong",
        "label_smoothing": RECIPES["standard"].label_smoothing,
    }
    rates = [row["learning_rate"] for row in read_rows(run.directory / "metrics.jsonl")]
    peak = RECIPES["standard"].learning_rate
    assert rates[0] == pytest.approx(peak) and rates[2] < peak / 2  # three steps: no time to rise
    assert "What augmentation makes of it" in (run.directory / "report.html").read_text()


@pytest.mark.soak
def test_a_deep_network_is_exported():
    digits, run = deep_run()
    exported = mj.export(run.directory, "stablehlo")
    network = jax.export.deserialize(bytearray(exported.path.read_bytes()))
    shares = network.call(digits.test.images)
    np.testing.assert_allclose(shares, jax.nn.softmax(run.logits), atol=1e-5)


@pytest.mark.parametrize("name", ["resnet", pytest.param("mobilenet", marks=pytest.mark.soak)])
def test_a_network_with_statistics_comes_back_from_its_file(name, tmp_path):
    made = new_network(name, image_shape=(8, 8, 1), seed=3, num_classes=4, dtype="float32")
    model, described = made
    apply_fn, params, state = functional_with_state(model)
    state = jax.tree.map(lambda leaf: leaf + 0.1, state)
    about = {
        "network": json.loads(json.dumps(described)),
        "images": {"shape": [8, 8, 1], "fit": "crop", "photos": False, "ink_side": None},
        "class_names": [*"abcd"],
        "versions": versions(),
    }
    write_archive(tmp_path / ARCHIVE, params, state, about)
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    evaluated = jax.jit(lambda images: apply_fn(params, state, images, None)[0])
    wanted = evaluated(images / np.float32(255))
    np.testing.assert_allclose(mj.load(tmp_path).logits(images), wanted, rtol=1e-4, atol=1e-5)


def test_networks_by_name_are_drawn_from_the_seed():
    def kernel(seed):
        how = {"image_shape": (12, 12, 1), "num_classes": 3}
        return as_functions(new_network("deep", seed=seed, **how)[0])[1]["conv1"]["kernel"]

    assert (kernel(1) == kernel(1)).all() and not (kernel(1) == kernel(2)).all()
    with pytest.raises(mj.MnistjaxError, match="at least 12x12"):
        mj.DeepCNN(image_shape=(11, 28, 1), rngs=nnx.Rngs(0))


REFUSED = [
    ("--preset qick", "did you mean quick?"),
    ("--model rsnet", "did you mean resnet?"),
    ("--augment lihgt", "--augment lihgt: .*did you mean light?"),
    ("--augment shift=2", "pass for example --augment shift=0.07"),
    ("--label-smoothing 1", "pass --label-smoothing 0.1"),
    ("--model deep --lrn", "--lrn .*is for --model small. Fix: drop --lrn"),
    ("--learning-rate nan", "must be a positive number"),
]


@pytest.mark.parametrize(("flags", "says"), REFUSED, ids=[flags for flags, _ in REFUSED])
def test_refused_in_one_line(flags, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.run(ScratchConfig, main, ["--dataset", "digits", *flags.split()]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and re.search(says, err), err
    assert not list(tmp_path.iterdir())


def test_a_run_older_than_presets_goes_on_as_it_was(tmp_path, capsys):
    few = "--dataset", "digits", "--train-size", "100", "--batch-size", "50", "--quiet"
    run = "--output", str(tmp_path / "run")
    with few_digits_to_test(20):
        assert cli.run(ScratchConfig, main, [*few, *run, "--preset", "keras", "--epochs", "1"]) == 0
        config = json.loads((tmp_path / "run" / "config.json").read_text())
        old = {name: of for name, of in config.items() if name not in NEW}
        assert len(old) == len(config) - len(NEW)
        (tmp_path / "run" / "config.json").write_text(json.dumps(old))
        resumed = ["--resume", *run, "--epochs", "2", "--quiet"]
        assert cli.run(ScratchConfig, main, resumed) == 0, capsys.readouterr().err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["preset"], summary["learning_rate"], summary["epochs"]) == ("keras", 1e-3, 2)


NEW = {"preset", "model", "augment", "label_smoothing"}


def test_a_rate_is_looked_for_instead_of_trained_with(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(
        "mnistjax.runs.rate_test.say_rate", lambda *of: asked.append(of) or "suggested rate 0.1"
    )
    flags = "--dataset", "digits", "--train-size", "60", "--find-learning-rate", "--quiet"
    assert cli.run(ScratchConfig, main, [*flags, "--output", str(tmp_path / "run")]) == 0
    ((plan, directory),) = asked
    assert directory == tmp_path / "run" and plan.batch_size <= 54
    assert capsys.readouterr().out == "suggested rate 0.1\n"
    assert not (tmp_path / "run" / "checkpoints").exists()
