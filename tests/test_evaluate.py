"""`python -m experiments.evaluate`: the run's own figures, and how sure it may be."""

import json
import shutil
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
from finished_runs import scratch_run

import mnistjax as mj
from experiments.evaluate import EvaluateConfig, main
from mnistjax import cli
from mnistjax.errors import DataError
from mnistjax.inference.calibration import (
    fit_temperature,
    negative_log_likelihood,
    reliability,
)
from mnistjax.inference.evaluation import check_classes, held_out, score, seen_by
from mnistjax.report.reliability import reliability_figure
from mnistjax.report.scores import probabilities

pytestmark = pytest.mark.usefixtures("without_pictures")


def evaluate(run, output, *flags):
    return cli.run(EvaluateConfig, main, [str(run), "--output", str(output), *map(str, flags)])


def told(output):
    return json.loads((output / "evaluation.json").read_text())


@pytest.fixture(scope="module")
def run():
    return scratch_run()


def test_its_own_test_set_scores_as_the_summary_says_to_the_bit(run, tmp_path, capsys):
    assert evaluate(run.directory, tmp_path / "e", "--calibrate") == 0
    got, summary = told(tmp_path / "e"), run.summary
    assert got["loss"] == summary["test_loss"] and got["accuracy"] == summary["test_accuracy"]
    assert got["balanced_accuracy"] == summary["test_balanced_accuracy"]
    assert got["classes"] == summary["classes"]
    assert got["dataset_sha256"] == summary["dataset_sha256"]
    out = capsys.readouterr().out
    assert f"accuracy {summary['test_accuracy']:.2%}" in out and "held-out images" in out
    assert got["fitted_on"] == summary["validation_examples"]
    page = (tmp_path / "e" / "report.html").read_text()
    assert page.count("<svg") == 4 and "://" not in page
    names = {path.stem for path in (tmp_path / "e" / "figures").iterdir()}
    assert names >= {"reliability", "reliability_with_temperature", "confusion", "most_wrong"}


def test_the_temperature_is_of_what_the_run_held_out(run):
    data = mj.load_dataset("digits")
    settings = mj.Run(run.directory).settings
    classifier, held = mj.load(run.directory), held_out(data, settings)
    row = next(
        row for row in mj.Run(run.directory).epochs if row["epoch"] == run.summary["best_epoch"]
    )
    assert score(classifier, held).metrics.loss == pytest.approx(row["val_loss"], rel=1e-6)
    with pytest.raises(DataError, match="is not what the run was trained on"):
        held_out(data, settings | {"dataset_sha256": "0"})


def test_a_model_alone_does_not_say_what_was_held_out(run, tmp_path, capsys):
    shutil.copy(run.directory / "model.safetensors", tmp_path)
    model = tmp_path / "model.safetensors"
    assert evaluate(model, tmp_path / "e", "--dataset", "digits", "--calibrate") == 2
    assert "does not say what its run held out" in capsys.readouterr().err
    assert evaluate(model, tmp_path / "f", "--dataset", "digits", "--temperature", "2") == 0
    got = told(tmp_path / "f")
    assert got["loss"] == run.summary["test_loss"] and got["fitted_on"] == 0


def folder(place, names, images, labels):
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        (place / names[label]).mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image).save(place / names[label] / f"{i}.png")
    return place


def test_a_folder_of_drawings_is_read_as_predict_reads_them(run, tmp_path, capsys):
    test = mj.load_dataset("digits").test
    rows = np.concatenate([np.flatnonzero(test.labels == n)[:4] for n in range(10)])
    large = [255 - np.kron(test.images[i, ..., 0], np.ones((4, 4), np.uint8)) for i in rows]
    place = folder(tmp_path / "own", "0123456789", large, test.labels[rows])
    flags = ("--data-dir", place, "--part", "all")
    assert evaluate(run.directory, tmp_path / "e", *flags) == 0
    got = told(tmp_path / "e")
    files = sorted(place.rglob("*.png"))
    answers = mj.load(run.directory).predict(files)
    right = [name == file.parent.name for name, file in zip(answers.names, files, strict=True)]
    assert got["examples"] == 40 and got["accuracy"] == pytest.approx(np.mean(right))
    PIL.Image.new("L", (99, 99), 255).save(place / "3" / "empty.png")
    assert evaluate(run.directory, tmp_path / "f", *flags) == 3
    assert "shows no character" in capsys.readouterr().err
    assert evaluate(run.directory, tmp_path / "g", *flags, "--skip-unreadable") == 0
    assert told(tmp_path / "g")["accuracy"] == got["accuracy"]
    assert "left out" in told(tmp_path / "g")["notice"] and "left out" in capsys.readouterr().out


def test_other_classes_are_refused_by_name(run, tmp_path, capsys):
    noise = np.random.default_rng(0).integers(0, 255, (8, 30, 30)).astype(np.uint8)
    place = folder(tmp_path / "own", ("0", "cat"), noise, [0, 1] * 4)
    assert evaluate(run.directory, tmp_path / "e", "--data-dir", place) == 3
    err = capsys.readouterr().err
    assert "the run does not know cat" in err and "it lacks 1, 2" in err


def test_classes_in_another_order_are_the_same_by_name(run, tmp_path):
    test = mj.load_dataset("digits").test
    order = np.arange(10)[::-1]
    labels = order[test.labels]
    names = np.array(list("0123456789"))[order]
    np.savez(
        tmp_path / "d.npz",
        x_train=test.images[..., 0],
        y_train=labels,
        x_test=test.images[..., 0],
        y_test=labels,
    )
    data = mj.load_dataset("auto", tmp_path / "d.npz")
    classifier, turned = mj.load(run.directory), replace(data, class_names=tuple(names))
    check_classes(classifier, turned)
    split, _ = seen_by(classifier, turned, turned.test)
    assert np.array_equal(split.labels, test.labels)


def test_arrays_of_another_shape_are_refused(run, tmp_path, capsys):
    images = np.zeros((20, 32, 32), np.uint8)
    labels = np.arange(20) % 10
    np.savez(tmp_path / "d.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert evaluate(run.directory, tmp_path / "e", "--data-dir", tmp_path / "d.npz") == 3
    assert "32x32x1, the run's 28x28x1" in capsys.readouterr().err


def test_a_used_directory_is_refused(run, capsys):
    assert evaluate(run.directory, run.directory) == 5
    err = capsys.readouterr().err
    assert "pass an empty or new --output" in err and "--resume" not in err


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--part", "tets"), "did you mean test"),
        (("--temperature", "0"), "--temperature 0"),
        (("--calibrate", "--temperature", "2"), "it says both"),
        (("--dataset", "mnits"), "did you mean mnist"),
    ],
)
def test_usage_is_checked_first(tmp_path, capsys, flags, why):
    assert evaluate("norun", tmp_path / "e", *flags) == 2
    assert why in capsys.readouterr().err


def sure(n=6000, spread=3.0, seed=0):
    """Logits whose softmax is the truth, times `spread`: surer than they are right."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 1.5, (n, 5))
    truth = probabilities(logits)
    labels = (truth.cumsum(1) > draw.random((n, 1))).argmax(1)
    return logits * spread, labels


def test_the_temperature_found_is_the_one_that_was_put_in():
    logits, labels = sure()
    assert fit_temperature(logits, labels) == pytest.approx(3.0, rel=0.06)
    best = fit_temperature(logits, labels)
    for other in (best * 0.9, best * 1.1):
        at = negative_log_likelihood(logits, labels, other)
        assert at > negative_log_likelihood(logits, labels, best)


def test_a_temperature_mends_what_others_are_too_sure_of():
    logits, labels = sure()
    before, after = (reliability(probabilities(logits / t), labels) for t in (1.0, 3.0))
    assert before.ece > 0.15 and after.ece < 0.02
    figure = reliability_figure(*before)
    assert len(figure.axes) == 2


def test_the_calibration_error_by_hand():
    shares = np.array([[1.0, 0.0], [0.65, 0.35], [0.62, 0.38], [0.2, 0.8]])
    got = reliability(shares, np.array([0, 0, 1, 1]), bins=5)
    assert got.counts.tolist() == [0, 0, 0, 3, 1]
    expected = abs(2 / 3 - (0.65 + 0.62 + 0.8) / 3) * 3 / 4
    assert got.ece == pytest.approx(expected)


def test_where_all_are_right_no_temperature_is_best():
    with pytest.raises(DataError, match="all 2 answers are right"):
        fit_temperature(np.eye(2), np.array([0, 1]))
