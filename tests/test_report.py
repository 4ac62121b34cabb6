import re
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from mnistjax.data.dataset import Split
from mnistjax.models.summary import LayerRow
from mnistjax.report import figures
from mnistjax.report.page import write_report
from mnistjax.report.scores import by_class, confusion, most_wrong, probabilities

SUMMARY = {"experiment": "scratch", "dataset": "toy", "train_examples": 9, "test_examples": 3}
SUMMARY |= {"validation_examples": 1, "best_epoch": 1, "epochs": 1, "test_accuracy": 2 / 3}
SUMMARY |= {"test_loss": 0.5, "train_seconds": 1.0, "compile_seconds": 1.0, "parameters": 10}
SUMMARY |= {"images_per_second": 9.0, "platform": "cpu", "device_kind": "cpu"}
SUMMARY |= {"versions": {"jax": "0.0"}}
EPOCH = {"epoch": 1, "train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5}
LOGITS = np.array([[4.0, 0], [3, 0], [0, 1]], np.float32)
LABELS = np.array([0, 1, 1], np.int32)


def report(directory, *, channels=1, names=("no", "yes"), notice=""):
    images = np.random.default_rng(0).integers(0, 255, (3, 12, 12, channels)).astype(np.uint8)
    return write_report(
        directory,
        summary=SUMMARY | {"notice": notice},
        epochs=[EPOCH],
        layers=[LayerRow("conv1", "Conv", (26, 26, 32), 320, 411_008)],
        test=Split(images, LABELS),
        logits=LOGITS,
        class_names=names,
        filters=np.random.default_rng(0).normal(size=(3, 3, channels, 8)),
    )


def test_scores_by_hand():
    assert confusion(LOGITS, LABELS).tolist() == [[1, 0], [1, 1]]
    no, yes = by_class(LOGITS, LABELS, ("no", "yes"))
    assert no == ("no", 0.5, 1.0, pytest.approx(2 / 3), 1)
    assert yes == ("yes", 1.0, 0.5, pytest.approx(2 / 3), 2)
    assert most_wrong(LOGITS, LABELS).tolist() == [1, 2, 0]


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_scores_are_those_of_scikit_learn(classes):
    random = np.random.default_rng(classes)
    labels = random.integers(0, classes - 1, 50)  # the last class never occurs
    logits = random.normal(size=(50, classes)) + np.eye(classes)[labels]
    answers, every = logits.argmax(axis=1), np.arange(classes)
    theirs = confusion_matrix(labels, answers, labels=every)
    np.testing.assert_array_equal(confusion(logits, labels), theirs)
    undefined: Any = 0  # its annotation says str
    theirs = precision_recall_fscore_support(labels, answers, labels=every, zero_division=undefined)
    ours = [row[1:] for row in by_class(logits, labels, tuple(map(str, every)))]
    for column, expected in zip(zip(*ours, strict=True), theirs, strict=True):
        np.testing.assert_allclose(column, np.asarray(expected), rtol=1e-15)


def test_a_class_that_never_occurs_scores_zero():
    scores = by_class(LOGITS @ np.eye(2, 3, dtype=np.float32), LABELS, ("a", "b", "c"))
    assert scores[2] == ("c", 0, 0, 0, 0)


def test_huge_logits_do_not_overflow():
    huge = np.array([[1e4, 0.0], [0.0, -1e4]])
    assert probabilities(huge).tolist() == [[1, 0], [1, 0]]
    assert most_wrong(huge, np.array([1, 0])).tolist() == [0, 1]


@pytest.mark.parametrize("channels", [1, 3])
def test_page_and_figures_are_written(tmp_path, channels):
    page = report(tmp_path, channels=channels).read_text()
    assert "66.67%" in page and "1 wrong of 3" in page
    assert page.count("<svg") == 4
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"report.html", "figures"}
    for path in (tmp_path / "figures").iterdir():
        with Image.open(path) as image:
            assert min(image.size) > 50


def test_names_and_notice_are_escaped(tmp_path):
    page = report(tmp_path, names=("<script>x</script>", "a&b$_"), notice="<b>n</b>").read_text()
    assert "<script" not in page and "<b>n" not in page
    assert "&lt;b&gt;n" in page


def test_nothing_is_loaded_from_anywhere(tmp_path):
    page = report(tmp_path).read_text()
    page = re.sub(r'xmlns(:\w+)?="[^"]+"', "", page)
    assert "://" not in page
    assert "<link" not in page and "@import" not in page


def test_ids_of_figures_do_not_meet(tmp_path):
    page = report(tmp_path).read_text()
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 50
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', page))
    assert used and used <= set(ids)


def test_figures_follow_the_page_and_repeat():
    svgs = [figures.to_svg(figures.learning_curves([EPOCH], best=1), salt="x") for _ in range(2)]
    assert svgs[0] == svgs[1]
    assert "currentColor" in svgs[0] and "#010203" not in svgs[0]
