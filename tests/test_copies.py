"""Changed copies of images: always the same, one of each an epoch, kept as features of all."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import few_digits_to_test
from finished_runs import finetune_run
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from jax.core import Tracer

import mnistjax as mj
from experiments.finetune import FinetuneConfig, main
from mnistjax import cli
from mnistjax.data.augment import Augmentation
from mnistjax.data.batches import epoch_order
from mnistjax.data.copies import Changed, Copies, changed_copies, examples_in, join, rows_of_copies
from mnistjax.data.split import part_validation
from mnistjax.errors import DataError, Stopped, StorageError
from mnistjax.files import params_sha256
from mnistjax.frozen.features import FrozenPart
from mnistjax.frozen.prepared import prepare
from mnistjax.models.functional import functional_with_state
from mnistjax.models.head import FineTuned
from mnistjax.runs.settings import settings_of
from mnistjax.training.randomness import image_keys

STRONG = Augmentation(shift=0.2, rotation=20.0, flip=0.5)
QUIET = mj.RunOptions(quiet=True)


def some(count, size=8, channels=3, seed=0):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, size, size, channels)).astype(np.uint8)
    return mj.Split(images, np.arange(count, dtype=np.int32) % 2)


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 9), st.integers(0, 40))
def test_an_epoch_sees_one_copy_of_each_and_as_many_epochs_as_copies_see_all(
    count, copies, batch_size, first
):
    seen = []
    for epoch in range(first, first + copies):
        order = epoch_order(3, epoch, count=count, batch_size=batch_size)
        rows = np.asarray(rows_of_copies(order, epoch, count=count, copies=copies))
        assert rows.shape == order.shape and rows.dtype == np.int32
        real = rows[rows < count * copies]
        assert sorted(real % count) == [*range(count)]
        assert (rows.ravel()[count:] == count * copies).all()  # what is padded is no row
        seen += [*real]
    assert sorted(seen) == [*range(count * copies)]


def test_a_changed_image_is_the_same_whatever_is_read_with_it():
    images = some(7).images
    changed = Changed(images, STRONG, copy=2)
    whole = changed[:]
    assert whole.shape == images.shape and whole.dtype == np.uint8
    for row in range(7):
        np.testing.assert_array_equal(changed[row], whole[row])
    np.testing.assert_array_equal(changed[[5, 1]], whole[[5, 1]])
    np.testing.assert_array_equal(changed[np.arange(7) > 4], whole[5:])
    same = np.repeat(images[:1], 7, axis=0)
    assert len({image.tobytes() for image in Changed(same, STRONG, copy=2)[:]}) == 7


def test_copies_are_told_apart_by_number_by_how_they_are_changed_and_of_what():
    images, other = some(3).images, some(3, seed=1).images
    light = Augmentation(shift=0.1)
    all_of = [(images, STRONG, 1), (images, STRONG, 2), (images, light, 1), (other, STRONG, 1)]
    digests = [Changed(of, how, copy=copy).sha256 for of, how, copy in all_of]
    assert len({*digests}) == 4
    assert Changed(images.copy(), STRONG, copy=1).sha256 == digests[0]
    assert (Changed(images, STRONG, copy=1)[:] != Changed(images, STRONG, copy=2)[:]).any()


def test_copies_are_read_as_one_array_would_be():
    parts = [some(5, seed=seed).images for seed in range(3)]
    copies, whole = Copies(parts), np.concatenate(parts)
    for index in (3, -1, slice(2, 12), np.array([14, 0, 7, 7]), np.arange(15) % 4 == 1):
        np.testing.assert_array_equal(copies[index], whole[index])
    np.testing.assert_array_equal(np.asarray(copies), whole)
    with pytest.raises(DataError, match="differ in shape"):
        Copies([parts[0], parts[1][:4]])


def linear(params, images):
    return images.reshape(len(images), -1) @ params["w"]


def trained_by_hand(split, copies, *, epochs, batch_size):
    """SGD on `copies` of the images, written out."""
    w = np.zeros((split.images[0].size, 2), np.float32)
    loss = jax.grad(
        lambda w, x, y: optax.softmax_cross_entropy_with_integer_labels(x @ w, y).mean()
    )
    for epoch in range(epochs):
        order = np.asarray(epoch_order(0, epoch, count=len(split.labels), batch_size=batch_size))
        for row in order:
            row = row[row < len(split.labels)]
            taken = np.stack([copies[(i + epoch) % len(copies)][i] for i in row])
            x = jnp.asarray(taken.reshape(len(row), -1), jnp.float32) / 255
            w = w - 0.1 * loss(w, x, jnp.asarray(split.labels[row]))
    return w


def plan_of(train, *, epochs=3, **more):
    stages = [mj.Stage(epochs, optax.sgd(0.1))]
    params = {"w": np.zeros((train.images[0].size, 2), np.float32)}
    how = {"apply_fn": linear, "params": params, "stages": stages, "batch_size": 4}
    return mj.Plan(train=train, **how | more)


def test_a_run_trains_on_one_copy_of_each_and_goes_on_where_it_stopped(tmp_path, signal_at):
    split = some(10)
    train = join([split, *changed_copies(split, STRONG, 3)])
    assert examples_in(train) == 10 and plan_of(train).steps == 3
    whole = mj.train_run(plan_of(train), tmp_path / "whole", options=QUIET)
    copies = [split.images, *(Changed(split.images, STRONG, copy=c)[:] for c in (1, 2))]
    wanted = trained_by_hand(split, copies, epochs=3, batch_size=4)
    np.testing.assert_allclose(whole.params["w"], wanted, atol=1e-6)
    with signal_at(4), pytest.raises(Stopped):
        mj.train_run(plan_of(train), tmp_path / "run", options=QUIET)
    again = mj.RunOptions(quiet=True, resume=True)
    resumed = mj.train_run(plan_of(train), tmp_path / "run", options=again)
    assert params_sha256(resumed.params) == params_sha256(whole.params)


def test_what_goes_through_a_frozen_part_is_changed_before(tmp_path):
    """The images of step 0 to 2 of one epoch, as the frozen part was given them."""
    split, seen = some(10), []

    def through(batch):
        if not isinstance(batch.images, Tracer):  # which ask for shapes
            seen.append(np.asarray(batch.images))
        return batch

    mj.train_run(plan_of(split, epochs=1, through=through, augment=STRONG), tmp_path, options=QUIET)
    order = np.asarray(epoch_order(0, 0, count=10, batch_size=4))
    assert len(seen) == len(order) == 3
    for step, row in enumerate(order):
        images = np.where((row < 10)[:, None, None, None], split.images[row % 10], np.uint8(0))
        wanted = STRONG(image_keys(0, step, 4), jnp.asarray(images))
        np.testing.assert_array_equal(seen[step], wanted)


@pytest.fixture(scope="module")
def part():
    weights = mj.load_weights("random", cut="block3")
    return FrozenPart.of(weights, ["block1"], image_size=32)


def toy(size=32):
    splits = [some(count, size=size, seed=seed) for seed, count in enumerate((8, 4))]
    return mj.Dataset("toy", *splits, class_names=("a", "b"), origin="made up")


def prepared(part, data, *, seed=0, limit_bytes: int | None = 2**30, copies=3):
    off = partial(part_validation, fraction=0.25, seed=seed)

    def part_off(data, examples):
        return off(data, examples)

    how = {"part_off": part_off, "augment": STRONG, "limit_bytes": limit_bytes, "quiet": True}
    return prepare(part, data, data.train, copies=copies, **how)


def test_features_of_copies_are_kept_for_every_seed_and_held_out_images_are_as_they_are(part):
    data = toy()
    got = prepared(part, data)
    assert got.augment_in_steps is None and got.copies == got.facts["copies"] == 3
    assert got.facts["computed"] == 3 * 8 + 4 and examples_in(got.train) == 6
    plain = prepared(part, data, copies=1)
    assert plain.facts["computed"] == 0  # the first copy is the image itself
    assert got.validation is not None and plain.validation is not None
    np.testing.assert_array_equal(got.validation.images, plain.validation.images)
    np.testing.assert_array_equal(got.train.images[:6], plain.train.images)
    kept, _ = part_validation(data, data.train, fraction=0.25, seed=0)
    rows = [
        i for i, of in enumerate(data.train.images) if any((of == k).all() for k in kept.images)
    ]
    changed = Changed(data.train.images, STRONG, copy=2)[:][rows]
    compute = prepared(part, data, limit_bytes=None).through
    mask = np.ones(6, bool)
    wanted = compute(mj.Batch(*(jnp.asarray(of) for of in (changed, kept.labels, mask)))).images
    np.testing.assert_allclose(got.train.images[12:], wanted, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(got.train.labels, np.tile(kept.labels, 3))
    other = prepared(part, data, seed=1)
    assert other.facts["computed"] == 0


def test_without_a_cache_steps_change_images_and_a_cache_too_small_is_an_error(part):
    data = toy()
    got = prepared(part, data, limit_bytes=None)
    assert got.augment_in_steps == STRONG and got.copies == 1
    assert got.train.images.dtype == np.uint8 and len(got.train.labels) == 6
    one = 16 * 16 * 64 * 4  # bytes of a row of features
    with pytest.raises(StorageError, match=r"features of 3 copies.*limit.*fewer than `copies=3`"):
        prepared(part, data, limit_bytes=28 * one - 1)
    assert prepared(part, data, limit_bytes=28 * one).copies == 3


def test_nothing_frozen_leaves_it_to_the_steps():
    weights = mj.load_weights("random", cut="block3")
    got = prepared(FrozenPart.of(weights, [], image_size=32), toy())
    assert got.augment_in_steps == STRONG and got.copies == 1


def test_dropout_of_the_head_is_for_training():
    def model(*hidden):
        return FineTuned(input_shape=(2, 2, 8), hidden=hidden, rngs=nnx.Rngs(0))

    apply_fn, params, state = functional_with_state(model(64, 0.5))
    plain, same = mj.functional(model(64))
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), params, same))
    maps = jax.random.normal(jax.random.key(0), (3, 2, 2, 8))
    evaluated, _ = apply_fn(params, state, maps, None)
    np.testing.assert_allclose(evaluated, plain(params, maps), atol=1e-6)
    trained = [apply_fn(params, state, maps, jax.random.key(step))[0] for step in (1, 2)]
    assert (trained[0] != trained[1]).any() and (trained[0] != evaluated).any()


FLAGS = "--augment", "light", "--copies", "2", "--dropout", "0.3", "--hidden", "32"


def test_the_command_line_trains_on_copies_and_with_dropout(tmp_path, capsys):
    run = finetune_run(*FLAGS)
    said = {name: run.summary[name] for name in ("augment", "copies", "dropout", "hidden")}
    assert said == {"augment": "light", "copies": 2, "dropout": 0.3, "hidden": 32}
    assert run.summary["train_examples"] == 50 and run.summary["feature_cache"]["copies"] == 2
    assert "What augmentation makes of it" in (run.directory / "report.html").read_text()
    network = mj.load(run.directory)
    with few_digits_to_test(100) as digits:
        got = network.logits(digits.test.images)
        np.testing.assert_allclose(got, run.logits, rtol=1e-3, atol=1e-3)
        argv = ["--resume", "--output", str(run.directory), "--no-cache-features", "--quiet"]
        assert cli.run(FinetuneConfig, main, argv) == 5
    fix = "changed: cache_features is not what this run had. Fix: pass --cache-features\n"
    assert capsys.readouterr().err.endswith(fix)


def test_older_runs_kept_no_copies():
    settings = settings_of(FinetuneConfig())
    assert {settings[name].absent for name in ("augment", "copies", "dropout", "hidden")} == {None}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--copies 1", "--copies 1: must be at least 2"),
        ("--hidden 0", "--hidden 0: must be at least 1"),
        ("--dropout 1", "must lie in 0..1"),
        ("--augment strnog", "did you mean strong?"),
    ],
)
def test_refused_in_one_line(flags, says, capsys):
    assert cli.run(FinetuneConfig, main, ["--dataset", "digits", *flags.split()]) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1
