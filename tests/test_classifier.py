"""`mj.load`: the answers of a run are those it had, whatever the images come in."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pytest
from finished_runs import finetune_run, scratch_run

import mnistjax as mj
from mnistjax.errors import DataError, StorageError, UsageError

DIGITS = mj.load_dataset("digits")
TEST = DIGITS.test


@pytest.fixture(scope="module")
def classifier():
    return mj.load(scratch_run().directory)


RUNS = [
    pytest.param(scratch_run, id="scratch"),
    pytest.param(finetune_run, id="features cached"),
    pytest.param(
        lambda: finetune_run("--no-cache-features"),
        id="features not cached",
        marks=pytest.mark.soak,
    ),
]


@pytest.mark.parametrize("make", RUNS)
def test_logits_are_those_of_the_runs_own_evaluation(make):
    run = make()
    images = TEST.images[: len(run.logits)]
    for where in (run.directory, run.directory / "model.safetensors"):
        assert np.array_equal(mj.load(where).logits(images), run.logits)


COUNTS = {scratch_run: (1, 2, 3, 5, 8, 63, 64, 65, 100, 200, 359), finetune_run: (1, 16, 17, 65)}


@pytest.mark.parametrize("make", [scratch_run, pytest.param(finetune_run, marks=pytest.mark.soak)])
def test_batches_of_any_length_give_the_same_and_compile_twice(make):
    classifier, whole = mj.load(make().directory), make().logits
    compiled: list[str] = []
    jax.clear_caches()

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for count in COUNTS[make]:
            got = classifier.logits(TEST.images[:count])
            np.testing.assert_allclose(got, whole[:count], rtol=1e-4, atol=1e-4)
    finally:
        jax.monitoring.clear_event_listeners()
    programs = sum("backend_compile" in name for name in compiled)
    assert 0 < programs <= 2 * (1 + (make is finetune_run))  # frozen part and head


SAME_BITS = """
import sys, numpy as np, mnistjax as mj
images = mj.load_dataset("digits").test.images
for directory in sys.argv[2:]:
    logits = mj.load(directory).logits
    whole = logits(images)
    for count in map(int, sys.argv[1].split()):
        assert np.array_equal(logits(images[:count]), whole[:count]), (directory, count)
"""


def outside_of_tests(code, *arguments):
    plain = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1000:]


@pytest.mark.parametrize("make", [scratch_run, pytest.param(finetune_run, marks=pytest.mark.soak)])
def test_they_are_the_same_bits_as_programs_are_compiled_outside_of_tests(make):
    outside_of_tests(SAME_BITS, "1 2 63 64 65 200", str(make().directory))


EVALUATED_ALIKE = """
import sys, numpy as np, mnistjax as mj
from flax import nnx
from mnistjax.inference.forward import make_forward_of
from mnistjax.training.evaluate import evaluate, make_eval_step
side, *counts = map(int, sys.argv[1:])
model = mj.CNN(image_shape=(side, side, 1), num_classes=3, rngs=nnx.Rngs(0))
apply_fn, params = mj.functional(model)
step, forward = make_eval_step(apply_fn=apply_fn), make_forward_of(apply_fn, params, ())
images = np.random.default_rng(0).integers(0, 256, (max(counts), side, side, 1), np.uint8)
whole = forward(images)
for count in counts:
    split = mj.Split(images[:count], np.zeros(count, np.int32))
    for logits in (forward(split.images), evaluate(step, params, split)[1]):
        assert np.array_equal(logits, whole[:count]), (side, count)
"""


@pytest.mark.parametrize(
    ("side", "counts"),
    [("12", "1 20 64 90"), pytest.param("200", "1 20 60", marks=pytest.mark.soak)],
)
def test_sets_of_any_size_are_evaluated_to_the_bits_of_their_images_in_a_larger_one(side, counts):
    outside_of_tests(EVALUATED_ALIKE, side, *counts.split())


def test_more_than_the_largest_batch_is_several(classifier):
    many = np.concatenate([TEST.images] * 3)
    assert np.array_equal(classifier.logits(many), np.concatenate([scratch_run().logits] * 3))


def test_answers_are_probabilities_with_names(classifier):
    answers = classifier.predict(TEST.images[:5])
    np.testing.assert_allclose(answers.probabilities.sum(axis=1), 1, rtol=1e-6)
    assert answers.names == [str(label) for label in scratch_run().logits[:5].argmax(axis=1)]
    assert [row[0][0] for row in answers.top(2)] == answers.names
    assert len(answers.top(99)[0]) == 10
    assert classifier.class_names == tuple("0123456789")
    assert classifier.about["test_accuracy"] == scratch_run().summary["test_accuracy"]
    assert repr(classifier) == "Classifier(CNN, 28x28x1, 10 classes)"


def test_a_temperature_makes_less_sure_and_changes_no_answer(classifier):
    plain, cool = (classifier.predict(TEST.images[:50], temperature=t) for t in (1.0, 4.0))
    assert plain.names == cool.names
    assert (cool.probabilities.max(1) < plain.probabilities.max(1)).all()
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="`temperature`"):
            classifier.predict(TEST.images[:1], temperature=wrong)


IMAGE = TEST.images[3]  # as trained: [28, 28, 1]
LARGE = np.asarray(PIL.Image.fromarray(IMAGE[..., 0]).resize((90, 90)))


def test_arrays_of_the_training_images_form_are_taken_as_they_are(classifier):
    assert np.array_equal(classifier.see(IMAGE)[0], IMAGE)
    for same in (IMAGE[..., 0], IMAGE[None], IMAGE[None, ..., 0], [IMAGE], [IMAGE[..., 0]]):
        assert np.array_equal(classifier.see(same), IMAGE[None])
    black = np.zeros_like(IMAGE)
    assert np.array_equal(classifier.see([black, IMAGE]), np.stack([black, IMAGE]))


def test_one_picture_is_the_same_in_every_container(classifier, tmp_path):
    PIL.Image.fromarray(LARGE).save(tmp_path / "7.png")
    ways = [
        tmp_path / "7.png",
        str(tmp_path / "7.png"),
        PIL.Image.fromarray(LARGE),
        PIL.Image.fromarray(LARGE).convert("RGB"),
        LARGE,
        LARGE[..., None],
        np.stack([LARGE] * 3, axis=-1),
        np.dstack([LARGE] * 3 + [np.full_like(LARGE, 255)]),
        LARGE / 255,
        (LARGE / 255).astype(np.float32),
        LARGE[None],
        [LARGE],
    ]
    seen = [classifier.see(way) for way in ways]
    assert all(np.array_equal(one, seen[0]) for one in seen)
    assert seen[0].shape == (1, 28, 28, 1) and seen[0].dtype == np.uint8
    assert np.array_equal(
        classifier.see([ways[0], LARGE, IMAGE])[:2], np.concatenate([seen[0]] * 2)
    )


WRONG = {
    "none": ([], "there are none"),
    "integers": (LARGE.astype(np.int64), "other values than a picture"),
    "beyond 1": (LARGE / 100, "other values than a picture"),
    "not a number": (np.full((30, 30), np.nan), "other values than a picture"),
    "one line": (np.zeros(784, np.uint8), "is no image"),
    "two channels": (np.zeros((30, 30, 2, 2), np.uint8), "is no image"),
    "five dimensions": (np.zeros((1, 1, 30, 30, 1), np.uint8), "is no image"),
    "nothing in it": (np.zeros((0, 30), np.uint8), "other values than a picture"),
    "not there": (Path("nowhere.png"), "nowhere.png"),
}


@pytest.mark.parametrize(("image", "why"), WRONG.values(), ids=WRONG)
def test_what_is_no_image_is_refused(classifier, image, why):
    with pytest.raises(DataError, match=why):
        classifier.predict(image)


def test_what_is_no_run_is_refused(tmp_path):
    for path, why in ((tmp_path / "x", "no such run"), (tmp_path, "holds no model.safetensors")):
        with pytest.raises(StorageError, match=why):
            mj.load(path)
    (tmp_path / "m.safetensors").write_bytes(b"no")
    with pytest.raises(StorageError):
        mj.load(tmp_path / "m.safetensors")
