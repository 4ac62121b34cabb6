"""From a folder of photos to a report: the flags, what is said, and what is written."""

import csv
import json
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import finetune, scratch
from experiments.finetune_flags import FinetuneConfig
from experiments.scratch import ScratchConfig
from mnistjax import cli
from mnistjax.data.digits import load_digits
from mnistjax.data.split import subset
from mnistjax.report.fonts import drawable
from mnistjax.training.losses import ClassWeighted, Smoothed, balanced, reported

random = np.random.default_rng(0)


def folder(root, names, counts, size=12):
    """Classes that differ by their hue; every picture differs from the others."""
    for i, (name, count) in enumerate(zip(names, counts, strict=True)):
        (root / name).mkdir(parents=True)
        for j in range(count):
            pixels = random.integers(0, 60, (size, size, 3))
            pixels[..., i % 3] += 120
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{j}.png")
    return root


def run(directory, data, *more):
    flags = "--data-dir", str(data), "--output", str(directory), "--image-size", "12"
    return cli.run(ScratchConfig, scratch.main, [*flags, *more])


NAMES = ("$", "$$", "[red]", "日本", "😀", "<b>")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    data = folder(root / "data", NAMES, [12, 12, 12, 12, 12, 6])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert run(root / "run", data, "--epochs", "2", "--class-weights", "balanced") == 0
    return root / "run", [str(w.message) for w in caught if "Glyph" in str(w.message)]


def test_names_of_any_script_come_through(trained):
    directory, glyph_warnings = trained
    config = json.loads((directory / "config.json").read_text())
    assert config["class_names"] == sorted(NAMES) and glyph_warnings == []
    page = (directory / "report.html").read_text()
    assert "<td>日本" in page and "&lt;b&gt;" in page and "<td>$$</td>" in page


def test_what_photos_need_is_written(trained):
    directory, _ = trained
    summary = json.loads((directory / "summary.json").read_text())
    scores = summary["classes"]
    assert scores.keys() == set(NAMES) and scores["日本"]["support"] > 0
    recalls = [scores[name]["recall"] for name in NAMES]
    assert summary["test_balanced_accuracy"] == pytest.approx(np.mean(recalls))
    with (directory / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == summary["test_examples"]
    right = sum(row["truth"] == row["answer"] for row in rows)
    assert right / len(rows) == pytest.approx(summary["test_accuracy"])
    assert all(row["file"].split("/")[0] == row["truth"] for row in rows)
    shares = [[float(row[name]) for name in sorted(NAMES)] for row in rows]
    np.testing.assert_allclose(np.sum(shares, axis=1), 1, atol=1e-5)
    assert "What the network sees" in (directory / "report.html").read_text()
    assert summary["class_weights"] == "balanced"


def test_ten_of_each_class_work_with_the_defaults(tmp_path, capsys, without_pictures):
    data = folder(tmp_path / "data", "abcdefghij", [10] * 10)
    assert run(tmp_path / "run", data, "--epochs", "1") == 0
    out = capsys.readouterr().out
    assert "batch size 16: there are 70 training images (--batch-size)" in " ".join(out.split())
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["batch_size"] == 16


def test_a_class_too_small_for_validation_is_named_with_the_flag(
    tmp_path, capsys, without_pictures
):
    data = folder(tmp_path / "data", ("many", "rare"), [60, 2])
    assert run(tmp_path / "run", data) == 3
    assert "class rare: has 1 example" in (err := capsys.readouterr().err)
    assert "--validation 0" in err
    assert run(tmp_path / "run2", data, "--validation", "0", "--epochs", "1") == 0


@pytest.mark.parametrize("flags", [["--image-size", "64"], ["--color"], ["--fit", "pad"],
                                   ["--skip-unreadable"]])  # fmt: skip
def test_flags_that_a_source_ignores_are_an_error(tmp_path, capsys, flags):
    argv = ["--dataset", "digits", "--output", str(tmp_path / "run"), *flags]
    assert cli.run(ScratchConfig, scratch.main, argv) == 2
    err = capsys.readouterr().err
    assert f"{flags[0]}: is for folders of pictures, not for digits" in err


def test_batch_and_splits_are_looked_at_before_features(tmp_path, capsys, monkeypatch):
    data = folder(tmp_path / "data", ("a", "b"), [19, 19], size=32)
    monkeypatch.setattr("experiments.finetune_run.features_of", None)
    argv = ["--data-dir", str(data), "--output", str(tmp_path / "r"), "--weights", "random"]
    assert cli.run(FinetuneConfig, finetune.main, [*argv, "--batch-size", "128"]) == 2
    assert "--batch-size 128: there are only" in capsys.readouterr().err


def test_any_number_of_training_examples_can_be_chosen():
    train = load_digits().train
    for size in (10, 11, 1430, 1436):
        part = subset(train, size=size, seed=0)
        assert len(part.labels) == size and set(part.labels) == set(range(10))


def test_weights_of_classes_make_them_count_the_same():
    labels = np.array([0] * 6 + [1] * 2 + [2])
    weights = balanced(labels, 4)
    sums = [sum(weights[label] for label in labels if label == c) for c in range(4)]
    assert sums == pytest.approx([2.25, 2.25, 2.25, 0])
    smoothed = ClassWeighted(weights, Smoothed(0.1))
    assert reported(smoothed) is reported(Smoothed(0.1))
    logits, classes = jnp.asarray(random.standard_normal((3, 4)), jnp.float32), jnp.array([0, 1, 2])
    want = Smoothed(0.1)(logits, classes) * jnp.array(weights[:3])
    np.testing.assert_allclose(smoothed(logits, classes), want, rtol=1e-6)
    np.testing.assert_allclose(np.array(weights[:3]) / weights[0], [1, 3, 6])


def test_what_no_font_has_is_shown_by_its_number():
    drawn = drawable(["cat", "\U000f1234"])
    assert drawn.names == ("cat", "class 1") and drawn.replaced == (1,)
