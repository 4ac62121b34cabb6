"""Drawn and photographed characters: found, brought to MNIST's form, and then read right."""

import io
from functools import cache

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pytest
from conftest import few_of_mnist
from finished_runs import place, scratch_run
from scipy import ndimage

import mnistjax as mj
from mnistjax.errors import DataError
from mnistjax.inference.drawn import drawing, separate

FORM = {"size": 28, "side": 20}


def drawn(text: str, *, size=160, bold=0, picture=(300, 300), at=None) -> np.ndarray:
    """`text` in black on white in the font that Pillow brings, its strokes `bold` pixels wider."""
    image = PIL.Image.new("L", picture, 255)
    draw = PIL.ImageDraw.Draw(image)
    place = at or (picture[0] // 2, picture[1] // 2)
    font = PIL.ImageFont.load_default(size)
    draw.text(place, text, 0, font, anchor="mm", stroke_width=bold, stroke_fill=0)
    return np.asarray(image)


def seen(grey):
    (one,) = drawing(grey, **FORM).seen
    return one.astype(float)


def alike(one, other):
    """Correlation, at best of the places a pixel apart: the centre of mass is rounded."""
    places = [np.roll(one, shift, (0, 1)) for shift in np.ndindex(3, 3)]
    other = np.roll(other, (1, 1), (0, 1)).ravel()
    return max(np.corrcoef(place.ravel(), other)[0, 1] for place in places)


def noisy(grey, spread=12):
    noise = np.random.default_rng(0).normal(0, spread, grey.shape)
    return np.clip(grey + noise, 0, 255).astype(np.uint8)


def lamp(grey):
    light = np.linspace(0.5, 1, 300)[None] * np.linspace(0.8, 1, 300)[:, None]
    return noisy((light * (60 + grey * (170 / 255))), 4)


KINDS = {
    "inverted": lambda text: 255 - drawn(text),
    "small": lambda text: drawn(text, size=80, picture=(150, 150)),
    "large": lambda text: np.kron(drawn(text), np.ones((3, 3), np.uint8)),
    "in a corner": lambda text: drawn(text, picture=(420, 360), at=(110, 250)),
    "noise": lambda text: noisy(drawn(text)),
    "under a lamp": lambda text: lamp(drawn(text)),
    "faint": lambda text: (200 + drawn(text) * (55 / 255)).astype(np.uint8),
    "grey on black": lambda text: ((255 - drawn(text)) * 0.4).astype(np.uint8),
}


@pytest.mark.parametrize("change", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("text", "0123456789")
def test_how_it_was_drawn_makes_no_difference(text, change):
    assert alike(seen(change(text)), seen(drawn(text))) > 0.9


@pytest.mark.parametrize("text", "0123456789")
def test_the_form_is_that_of_mnist(text):
    for bold in (0, 4, 8):
        image = seen(drawn(text, bold=bold))
        rows, columns = np.nonzero(image > 32)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20, 21)
        assert image.max() > 240 and image[[0, -1]].max() == image[:, [0, -1]].max() == 0
        np.testing.assert_allclose(ndimage.center_of_mass(image), (14, 14), atol=0.6)


def test_thin_strokes_do_not_vanish():
    image = PIL.Image.new("L", (1200, 1200), 255)
    PIL.ImageDraw.Draw(image).line([(300, 250), (900, 250), (500, 1000)], 0, 8)
    shrunk = np.asarray(image.resize((280, 280)))
    assert (seen(shrunk) > 200).sum() >= 30


@pytest.mark.parametrize("text", ["17", "2024", "31415"])
def test_several_characters_are_found_from_left_to_right(text):
    spaced = drawn(" ".join(text), size=90, picture=(640, 640))
    got = drawing(spaced, **FORM)
    assert len(got.seen) == len(got.characters) == len(text)
    alone = {one: seen(drawn(one)) for one in "0123456789"}
    for image, character in zip(got.seen, text, strict=True):
        assert max(alone, key=lambda one: alike(image.astype(float), alone[one])) == character


def test_parts_over_one_another_are_one_character():
    image = PIL.Image.new("L", (200, 200), 255)
    draw = PIL.ImageDraw.Draw(image)
    draw.line([(60, 40), (130, 40)], 0, 12)  # the bar of a 5, not joined
    draw.arc([(50, 70), (140, 160)], 200, 160, 0, 12)
    assert len(drawing(np.asarray(image), **FORM).seen) == 1


def test_a_photo_that_was_filled_up_to_a_square_has_no_ink_along_its_edges():
    light = np.linspace(110, 230, 400)[None] * np.linspace(0.8, 1, 140)[:, None]
    plain = np.full((140, 400), 255, np.uint8)
    plain[30:110, 60:70], plain[30:110, 300:312] = 0, 0
    photo = noisy(light * (0.3 + 0.7 * plain / 255), 4)
    rim = int(np.median(np.concatenate([photo[0], photo[-1]])))
    for axes in (photo, photo.T):
        fill = [(0, 0) if n == 400 else (130, 130) for n in axes.shape]
        padded = np.pad(axes, fill, constant_values=rim)
        got, alone = (drawing(one, **FORM) for one in (padded, axes))
        assert np.array_equal(got.ink, alone.ink)
        assert not got.ink[[0, -1]].any() and not got.ink[:, [0, -1]].any()
    assert drawing(plain, **FORM).grey.shape == plain.shape


def test_dirt_is_left_out():
    dirty = drawn("7").copy()
    dirty[20:24, 20:24] = 0
    assert alike(seen(dirty), seen(drawn("7"))) > 0.99


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_picture_is_refused(level):
    for grey in (np.full((300, 300), level, np.uint8), noisy(np.full((300, 300), level), 3)):
        with pytest.raises(DataError, match="shows no character"):
            drawing(grey, **FORM)


def test_the_smallest_pictures_are_answered_or_refused():
    draw = np.random.default_rng(0)
    for shape in ((1, 1), (1, 9), (2, 2), (3, 300), (5, 5)):
        for grey in (np.zeros(shape, np.uint8), draw.integers(0, 256, shape).astype(np.uint8)):
            try:
                drawing(grey, **FORM)
            except DataError:
                continue


def test_separate_gives_back_what_is_lit():
    ink = np.zeros((40, 60), np.uint8)
    ink[5:35, 5:15], ink[10:30, 40:50] = 255, 255
    assert [one.shape for one in separate(ink)] == [(30, 10), (20, 10)]


@pytest.fixture
def mnist_run(mnist_dir):
    """Trained on 3,000 real images once for all, with the 200 that it was tested on."""
    return _mnist_run(mnist_dir)


@cache
def _mnist_run(mnist_dir):
    few = few_of_mnist(mnist_dir, place() / "few", train=3000, test=200)
    run = scratch_run(*few, "--epochs", "2", "--batch-size", "30")
    return run, mj.load_dataset("mnist", place() / "few", verify=False).test


def as_file(image, kind):
    large = PIL.Image.fromarray(255 - image).resize((300, 300), PIL.Image.Resampling.BICUBIC)
    file = io.BytesIO()
    large.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_of_200_test_images_in_files_nearly_all_that_was_right_is(mnist_run, tmp_path, kind):
    run, test = mnist_run
    files = [tmp_path / f"{i}.{kind.lower()}" for i in range(200)]
    for file, image in zip(files, test.images, strict=False):
        file.write_bytes(as_file(image[..., 0], kind))
    right = run.logits[:200].argmax(axis=1) == test.labels[:200]
    answers = mj.load(run.directory).predict(files)
    assert right.sum() >= 180
    assert (answers.labels == test.labels[:200])[right].mean() >= 0.98


def test_several_in_one_file_are_refused_with_their_number_or_read(mnist_run, tmp_path):
    run, test = mnist_run
    four = np.concatenate([255 - image[..., 0] for image in test.images[:4]], axis=1)
    PIL.Image.fromarray(four).resize((1120, 280)).save(tmp_path / "four.png")
    classifier = mj.load(run.directory)
    with pytest.raises(DataError, match=r"four\.png: shows 4 characters.*`segment=True`"):
        classifier.predict(tmp_path / "four.png")
    answers = classifier.predict(tmp_path / "four.png", segment=True)
    assert answers.labels.tolist() == run.logits[:4].argmax(axis=1).tolist()
