"""Wrong labels planted among right ones are found by the run that trained on them."""

import csv
import json

import numpy as np
import pytest
from conftest import idx_bytes

from experiments.scratch import ScratchConfig, main
from mnistjax import cli
from mnistjax.data.digits import load_digits
from mnistjax.data.idx import FILES
from mnistjax.data.load import load_dataset
from mnistjax.report.suspects import SHOWN, find_suspects


def planted(place, data, *, train, test, wrong):
    """IDX files in `place` of some of `data`, and the numbers of the images given another label."""
    random = np.random.default_rng(0)
    rows = np.sort(random.choice(len(data.train.labels), train, replace=False))
    labels = data.train.labels[rows].copy()
    bad = random.choice(train, wrong, replace=False)
    labels[bad] = (labels[bad] + random.integers(1, 10, wrong)) % 10
    arrays = {"train_images": data.train.images[rows], "train_labels": labels}
    arrays |= {"test_images": data.test.images[:test], "test_labels": data.test.labels[:test]}
    place.mkdir()
    for role, name in FILES.items():
        array = arrays[role].astype(np.uint8)
        (place / name).write_bytes(idx_bytes(array[..., 0] if array.ndim == 4 else array))
    return {*bad.tolist()}


def suspects_of(place, output, *flags):
    argv = ["--data-dir", str(place), "--allow-unverified-data", "--find-mislabelled", "--quiet"]
    assert cli.run(ScratchConfig, main, [*argv, "--output", str(output), *flags]) == 0
    with (output / "suspects.csv").open(encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file)]


def test_planted_labels_are_among_the_first_and_shown(tmp_path, without_pictures):
    bad = planted(tmp_path / "data", load_digits(), train=600, test=40, wrong=6)
    flags = "--epochs", "8", "--batch-size", "32", "--augment", "none"
    rows = suspects_of(tmp_path / "data", tmp_path / "run", *flags)
    assert len(rows) == SHOWN and rows[0].keys() == {
        "image",
        "label",
        "answer",
        "label's probability",
        "answer's probability",
    }
    believed = [float(row["label's probability"]) for row in rows]
    assert believed == sorted(believed)
    assert len(bad & {int(row["image"]) for row in rows[:12]}) >= 5
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Training images whose labels look wrong" in page
    pictures = [path.name for path in (tmp_path / "run" / "figures").iterdir()]
    assert "training_images_whose_labels_look_wrong.png" in pictures


@pytest.mark.soak
def test_of_one_in_a_hundred_most_are_in_the_first_two(mnist_dir, tmp_path):
    mnist = load_dataset("mnist", mnist_dir)
    bad = planted(tmp_path / "data", mnist, train=5000, test=1000, wrong=50)
    rows = suspects_of(tmp_path / "data", tmp_path / "run")
    found = len(bad & {int(row["image"]) for row in rows})
    print(json.dumps({"planted": 50, "looked at": len(rows), "found": found}))
    assert len(rows) == 100 and found >= 40


def test_two_in_a_hundred_are_ranked_and_fifty_at_least():
    logits = np.random.default_rng(0).normal(size=(4000, 3))
    labels = np.zeros(4000, int)
    got = find_suspects(logits, labels)
    assert len(got.rows) == 80 and len(find_suspects(logits[:60], labels[:60]).rows) == 50
    believed = np.exp(logits[:, 0]) / np.exp(logits).sum(1)
    np.testing.assert_array_equal(got.rows, np.argsort(believed)[:80])
