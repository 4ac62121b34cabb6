"""Images changed at random: each by its own key, as the formulas say, the same when resumed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import mnistjax as mj
from mnistjax.data.augment import Augmentation, sample
from mnistjax.data.augment_text import CHARACTERS, PHOTOS, USUAL, parse_augmentation
from mnistjax.data.batches import Batch
from mnistjax.errors import DataError, Stopped, UsageError
from mnistjax.files import params_sha256
from mnistjax.training.augmented import augmented
from mnistjax.training.metrics import Metrics
from mnistjax.training.randomness import image_keys


def some_images(count=4, height=9, width=12, channels=3, seed=0):
    random = np.random.default_rng(seed)
    return jnp.asarray(random.integers(0, 256, (count, height, width, channels)).astype(np.uint8))


def keys_of(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 1, 1), (5, 8, 1), (7, 3, 3)]))
def test_a_place_is_read_as_scipy_reads_it(seed, shape):
    images = some_images(2, *shape, seed=seed)
    places = np.random.default_rng(seed).uniform(-3, 12, (2, 2, 5, 6))
    places = (places * 64).round() / 64  # what `sample` rounds to
    by_pair: Any = jnp.asarray(places, jnp.float32)
    got = np.asarray(jax.jit(sample)(images, *by_pair), np.float64)
    channels = shape[-1]
    for image, of, at in zip(images, got, places.swapaxes(0, 1), strict=True):
        for channel in range(channels):
            around = np.pad(np.asarray(image[..., channel], np.float64), 1)  # black, not nothing
            want = ndimage.map_coordinates(around, at + 1, order=1, mode="nearest")
            np.testing.assert_allclose(of[..., channel], want, atol=0.5 + 1e-6)


def test_nothing_asked_for_changes_nothing():
    images = some_images()
    assert (Augmentation()(keys_of(4), images) == images).all()
    rows, columns = jnp.mgrid[:9.0, :12.0][:, None]
    assert (sample(images, rows.repeat(4, 0), columns.repeat(4, 0)) == images).all()


def test_a_mirror_is_a_mirror():
    images = some_images()
    assert (Augmentation(flip=1.0)(keys_of(4), images) == images[:, :, ::-1]).all()


def blob(side=41):
    """A dot right of the middle, so that a turn and a move can be told."""
    image = np.zeros((1, side, side, 1), np.uint8)
    image[0, 19:22, 29:32] = 255
    return jnp.asarray(image)


def middles(augment, image, count=200):
    """Where the dot is after it, from the middle of the image: rows down, columns right."""
    out = np.asarray(augment(keys_of(count), jnp.repeat(image, count, 0)), np.float64)[..., 0]
    middle = (image.shape[1] - 1) / 2
    return np.array([ndimage.center_of_mass(one) for one in out]) - middle


@pytest.mark.parametrize("change", ["rotation", "scale", "shift", "shear", "elastic"])
def test_a_dot_goes_where_it_should_and_no_further(change):
    strength = {"rotation": 30.0, "scale": 0.5, "shift": 0.2, "shear": 20.0, "elastic": 0.03}[
        change
    ]
    image = jnp.rot90(blob(), 1, (1, 2)) if change == "shear" else blob()
    down, right = middles(Augmentation(**{change: strength}), image).T
    far, angle = np.hypot(down, right), np.degrees(np.arctan2(down, right))
    if change == "rotation":
        np.testing.assert_allclose(far, 10, atol=0.15)
        assert 27 < angle.max() <= 31 and -31 <= angle.min() < -27
    elif change == "scale":
        np.testing.assert_allclose(down, 0, atol=0.1)
        assert 14 < right.max() < 15.2 and 6.5 < right.min() < 7.1
    elif change == "shift":
        assert 7 < right.max() - 10 < 8.3 and -8.3 < right.min() - 10 < -7
        assert 7 < down.max() < 8.3 and -8.3 < down.min() < -7
    elif change == "shear":  # the dot is 10 above the middle
        np.testing.assert_allclose(down, -10, atol=0.1)
        assert 3.2 < right.max() < 3.8 and -3.8 < right.min() < -3.2
    else:
        spread = np.concatenate([down, right - 10]).std()
        assert 0.7 * 0.03 * 41 < spread < 1.3 * 0.03 * 41


def test_a_crop_stays_inside():
    white = jnp.full((50, 10, 10, 1), 255, jnp.uint8)
    assert (Augmentation(crop=0.9)(keys_of(50), white) == 255).all()
    ramp = jnp.arange(100, dtype=jnp.uint8).reshape(1, 10, 10, 1).repeat(50, 0)
    out = np.asarray(Augmentation(crop=0.9)(keys_of(50), ramp)).reshape(50, -1)
    assert np.ptp(out, axis=1).min() < 45 and np.ptp(out, axis=1).max() > 90


def test_cutout_covers_a_square():
    white = jnp.full((200, 20, 20, 3), 255, jnp.uint8)
    out = np.asarray(Augmentation(cutout=0.3)(keys_of(200), white))
    gone = (out == 0).all(-1)
    assert ((out == 255).all(-1) | gone).all()
    assert gone.sum((1, 2)).max() == 36 and gone.any((1, 2)).all()
    middle = gone.mean(0)
    assert middle[5:15, 5:15].mean() == pytest.approx(0.09, rel=0.25)  # anywhere alike


STRONG = Augmentation(**USUAL)


def test_an_image_depends_on_its_key_alone():
    images, keys = some_images(), keys_of(4)
    whole = STRONG(keys, images)
    assert (STRONG(keys[::-1], images[::-1])[::-1] == whole).all()
    assert (STRONG(keys[1:2], images[1:2])[0] == whole[1]).all()
    assert (jax.jit(STRONG)(keys, images) == whole).all()
    assert not (STRONG(keys_of(4, seed=1), images) == whole).all((1, 2, 3)).any()


def test_keys_differ_by_seed_step_and_place():
    keys = [image_keys(seed, step, 16) for seed in (0, 1) for step in (0, 1)]
    numbers = np.concatenate([np.asarray(jax.random.key_data(of)) for of in keys])
    assert len(np.unique(numbers, axis=0)) == 64


def test_floats_are_refused():
    with pytest.raises(DataError, match="images of float32"):
        STRONG(keys_of(4), some_images().astype(jnp.float32))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lihgt", "did you mean light?"),
        ("shift=2", r"shift=2: must lie in 0\.\.1.*augment=shift=0.07"),
        ("rotation=a", "is no NAME=NUMBER.*rotation=10"),
        ("light,shift", "light stands alone"),
        ("shift=nan", r"must lie in 0\.\.1"),
        ("", "not one of none, light"),
    ],
)
def test_text_that_is_none_is_refused(text, says):
    with pytest.raises(UsageError, match=says):
        parse_augmentation(text)


def test_only_photos_are_mirrored():
    assert all("flip" not in of for of in CHARACTERS.values())
    assert all("flip" in of for of in PHOTOS.values())
    for kind in CHARACTERS:
        for photos in (False, True):
            Augmentation(**parse_augmentation(kind, photos=photos))
    assert parse_augmentation("none") == {}


def test_a_step_sees_what_its_number_says_and_may_be_given_any_function():
    def seen(state, batch):
        return state, Metrics(batch.images.astype(jnp.float32).sum((1, 2, 3)), 0, 4)

    def brighter(keys, images):
        return jax.vmap(
            lambda key, image: image + jax.random.randint(key, (), 0, 9).astype(jnp.uint8)
        )(keys, images // 2)

    batch = Batch(some_images(), jnp.zeros(4, jnp.int32), jnp.ones(4, bool))
    step = augmented(seen, augment=brighter, seed=3, donate=False)
    state = mj.init_state({"w": jnp.zeros(1)}, optax.sgd(0.1))._replace(step=jnp.array(7))
    _, told = step(state, batch)
    want = brighter(image_keys(3, 7, 4), batch.images).astype(jnp.float32).sum((1, 2, 3))
    np.testing.assert_array_equal(told.loss_sum, want)


def plan_with(augment, **more):
    """The smallest run: a linear network on 60 digits, batches of 20."""
    digits = mj.load_dataset("digits")
    train, test = (mj.Split(of.images[:60], of.labels[:60]) for of in (digits.train, digits.test))
    params = {"w": jax.random.normal(jax.random.key(0), (784, 10)) / 28}
    return mj.Plan(
        apply_fn=lambda params, images: images.reshape(len(images), -1) @ params["w"],
        params=params,
        stages=[mj.Stage.by_adam(2, 0.01)],
        train=train,
        validation=test,
        batch_size=20,
        augment=augment,
        **more,
    )


QUIET = mj.RunOptions(quiet=True)


def test_a_run_stopped_in_an_epoch_goes_on_with_the_same_images(tmp_path, signal_at):
    whole = mj.train_run(plan_with(STRONG), tmp_path / "whole", options=QUIET)
    with signal_at(4), pytest.raises(Stopped):
        mj.train_run(plan_with(STRONG), tmp_path / "run", options=QUIET)
    again = mj.RunOptions(quiet=True, resume=True)
    resumed = mj.train_run(plan_with(STRONG), tmp_path / "run", options=again)
    assert params_sha256(resumed.params) == params_sha256(whole.params)
    plain = mj.train_run(plan_with(None), tmp_path / "plain", options=QUIET)
    assert params_sha256(plain.params) != params_sha256(whole.params)


def test_evaluation_sees_images_as_they_are(tmp_path):
    def black(keys, images):
        return jnp.zeros_like(images)

    plan = plan_with(black)  # nothing to learn from
    trained = mj.train_run(plan, tmp_path, options=QUIET)
    np.testing.assert_array_equal(trained.params["w"], plan.params["w"])
    assert plan.validation is not None
    eval_step = mj.make_eval_step(apply_fn=plan.apply_fn)
    wanted, _ = mj.evaluate(eval_step, plan.params, plan.validation)
    assert trained.epochs[-1]["val_loss"] == pytest.approx(wanted.loss) != np.log(10)


def test_a_strength_out_of_its_range_is_refused():
    with pytest.raises(UsageError, match=r"`rotation` 200: must lie in 0\.\.180.*rotation=10"):
        Augmentation(rotation=200.0)
