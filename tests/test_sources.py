"""Anything with `__len__` and `__getitem__` is a source: the same bits as the arrays it holds."""

import threading
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from stateful_models import CLASSES, nnx_model, split

import mnistjax as mj
from mnistjax.data.dataset import as_split
from mnistjax.data.lazy_images import Rows, parts, pixels_sha256
from mnistjax.data.prefetch import placement
from mnistjax.data.source import SourceImages, read_source
from mnistjax.errors import DataError, StorageError
from mnistjax.files import params_sha256

TX = optax.adam(3e-2)
WHOLE = split(53)


class Counted:
    """A source that is nothing else, and counts who was read."""

    def __init__(self, whole, key=lambda image, label: (image, label)):
        self.whole, self.key, self.reads, self.lock = whole, key, [], threading.Lock()

    def __len__(self):
        return len(self.whole.labels)

    def __getitem__(self, index):
        with self.lock:
            self.reads.append(index)
        return self.key(self.whole.images[index], self.whole.labels[index])


def as_dict(image, label):
    return {"image": image, "label": int(label), "id": 7}


def grain_source():
    grain = pytest.importorskip("grain", reason="grain is not installed")
    return grain.MapDataset.source(SOURCES["pairs"]()).map(lambda pair: as_dict(*pair))


SOURCES = {
    "pairs": lambda: [*zip(WHOLE.images, WHOLE.labels.tolist(), strict=True)],
    "dicts": lambda: [as_dict(*pair) for pair in zip(*WHOLE, strict=True)],
    "random access": lambda: Counted(WHOLE),
    "random access, dicts": lambda: Counted(WHOLE, as_dict),
    "grey": lambda: [*zip(WHOLE.images[..., 0], WHOLE.labels, strict=True)],
    "grain": grain_source,
}


@pytest.fixture
def never_whole(monkeypatch):
    """No set is small."""
    monkeypatch.setattr("mnistjax.data.source.LEAST", 0)
    monkeypatch.setattr("mnistjax.data.memory.limit_bytes", lambda: 0)


def fit(train: Any, validation: Any = None):
    apply_fn, params, model_state = nnx_model()
    events = mj.fit(
        mj.init_state(params, TX, model_state),
        train_step=mj.make_train_step(apply_fn=apply_fn, tx=TX),
        eval_step=mj.make_eval_step(apply_fn=apply_fn),
        train=train,
        validation=validation,
        epochs=2,
        batch_size=16,
        seed=5,
    )
    last: Any = [*events][-1]
    return params_sha256((last.state.params, last.state.model_state))


@pytest.fixture(scope="module")
def wanted():
    return fit(WHOLE)


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_small_sources_are_arrays_and_train_to_their_bits(make, wanted):
    images, labels = as_split(make())
    assert type(images) is np.ndarray and images.dtype == np.uint8
    assert np.array_equal(images, WHOLE.images)
    assert labels.dtype == np.int32 and np.array_equal(labels, WHOLE.labels)
    assert fit(make()) == wanted


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_large_sources_are_read_row_by_row_and_train_to_the_same_bits(
    make, wanted, never_whole, monkeypatch
):
    sizes = []
    examples = SourceImages.examples
    monkeypatch.setattr(
        SourceImages, "examples", lambda *args: sizes.append(len(args[1])) or examples(*args)
    )
    taken = as_split(make())
    assert isinstance(taken.images, SourceImages)
    assert placement(taken) == "images come from their source, 2 batches ahead"
    sizes.clear()
    assert fit(taken) == wanted
    assert sizes == [16, 16, 16, 5] * 2  # never all at once


def test_evaluation_takes_a_source(never_whole):
    step = mj.make_eval_step(apply_fn=lambda p, images: images.reshape(len(images), -1) @ p)
    params = jnp.linspace(-1, 1, 16 * CLASSES).reshape(16, CLASSES)
    source: Any = SOURCES["pairs"]()
    metrics, logits = mj.evaluate(step, params, source, batch_size=16)
    again, same = mj.evaluate(step, params, WHOLE, batch_size=16)
    assert metrics == again and np.array_equal(logits, same)


def dataset(train: Any, test: Any) -> mj.Dataset:
    return mj.Dataset("birds", train=train, test=test, class_names=tuple("abc"), origin="here")


def train(data, directory, **options):
    quick: Any = {"epochs": 1, "batch_size": 16, "tx": TX}
    return mj.train(
        nnx_model(), data, directory, options=mj.RunOptions(quiet=True, **options), **quick
    )


@pytest.mark.usefixtures("without_pictures")
def test_a_run_of_a_large_source_resumes_and_refuses_other_pixels(tmp_path, never_whole):
    source = Counted(WHOLE)
    data = dataset(source, SOURCES["pairs"]())
    assert sorted(source.reads) == [0, *range(53)]  # the first one tells the shape
    assert data.sha256 == data.sha256 and len(source.reads) == 54  # the digest reads none again
    run = train(data, tmp_path / "run")
    assert isinstance(data.train.images, SourceImages)
    plain = train(dataset(WHOLE, WHOLE), tmp_path / "plain")
    for name in ("params_sha256", "test_loss", "model_state_sha256"):
        assert run.summary[name] == plain.summary[name]
    again = dataset(Counted(WHOLE), SOURCES["pairs"]())
    assert train(again, tmp_path / "run", resume=True).summary == run.summary
    images = WHOLE.images.copy()
    images[52, 3, 3] ^= 1
    other = dataset(Counted(WHOLE._replace(images=images)), SOURCES["pairs"]())
    with pytest.raises(StorageError, match="data is not what this run had"):
        train(other, tmp_path / "run", resume=True)


def test_what_reads_all_rows_reads_few_at_a_time(monkeypatch):
    monkeypatch.setattr("mnistjax.data.lazy_images.PART", 160)  # ten images of 16 bytes
    rows = Rows(WHOLE.images, np.arange(53)[::-1])
    assert [len(part) for part in parts(rows)] == [10] * 5 + [3]
    assert pixels_sha256(rows) == pixels_sha256(WHOLE.images[::-1])
    monkeypatch.setattr("mnistjax.data.source.PART", 160)
    images, labels = read_source(Counted(WHOLE))
    assert np.array_equal(images, WHOLE.images) and np.array_equal(labels, WHOLE.labels)


def test_digests_are_those_of_arrays(never_whole):
    lazy = as_split(Counted(WHOLE))
    assert lazy.images_sha256() == WHOLE.images_sha256() == lazy.images.sha256  # type: ignore
    order = np.array([3, 1, 52])
    rows = Rows(WHOLE.images, order)
    assert pixels_sha256(rows) == pixels_sha256(WHOLE.images[order])
    parted = dataset(lazy.take(np.arange(53)), WHOLE)
    assert isinstance(parted.train.images, Rows) and parted.sha256 == dataset(WHOLE, WHOLE).sha256


def test_small_sources_have_the_digest_of_arrays():
    assert dataset(Counted(WHOLE), WHOLE).sha256 == dataset(WHOLE, WHOLE).sha256


@pytest.mark.parametrize(
    "index",
    [0, -1, slice(None), slice(10, 2, -3), np.arange(53) % 2 == 0, [3, -53, 3], np.zeros(0, int)],
    ids=str,
)
def test_lazy_images_are_indexed_as_arrays_are(index, never_whole):
    lazy: Any = as_split(Counted(WHOLE)).images
    for images in (lazy, Rows(lazy, np.arange(53)), Rows(WHOLE.images, np.arange(53))):
        assert np.array_equal(images[index], WHOLE.images[index])
        assert images[index].shape == WHOLE.images[index].shape
        assert len(images) == 53 and np.array_equal(np.asarray(images), WHOLE.images)
        for wrong in (53, -54):
            with pytest.raises(IndexError):
                images[np.array([0, wrong])]


def test_several_threads_read_and_results_keep_their_order(never_whole):
    late = threading.Event()

    class Slow(Counted):
        def __getitem__(self, index):
            if index == 52:
                late.set()
            elif index == 1:
                assert late.wait(60), "one thread reads all"
            return super().__getitem__(index)

    lazy: Any = as_split(Slow(WHOLE)).images
    assert np.array_equal(lazy[:], WHOLE.images)
    assert not [thread for thread in threading.enumerate() if "mnistjax" in thread.name]


IMAGE = np.zeros((4, 4, 1), np.uint8)


class Endless:
    def __len__(self):
        return 2**62

    def __getitem__(self, index):
        return IMAGE, 0


BROKEN: dict[str, tuple[Any, str]] = {
    "another shape": ([(IMAGE, 0)] * 9 + [(IMAGE[1:], 0)], "image 9: is of shape 3x4x1, the first"),
    "floats": ([(IMAGE, 0)] * 3 + [(IMAGE / 255, 0)], "image 3: is of float64, not of uint8"),
    "a path": ([("cat.png", 0)], "image 0: is of <U7, not of uint8"),
    "a batch": ([(IMAGE[None], 0)], "image 0: is of shape 1x4x4x1, not height x width"),
    "filtered out": ([(IMAGE, 0), None], "example 1: is no pair .* but NoneType"),
    "no label": ([{"image": IMAGE}], "example 0: is no pair .* but dict"),
    "two arrays": (
        (np.stack([IMAGE] * 2), np.zeros(2)),
        r"example 0.*or `Split\(images, labels\)`",
    ),
    "nothing": ([], "the source: holds 0 examples"),
    "repeated without end": (Endless(), "holds 4,611,.* examples. Fix: leave out what repeats"),
    "words": ([(IMAGE, "cat")], "labels of the source: are str, not numbers"),
    "labels of several shapes": ([(IMAGE, [1]), (IMAGE, [1, 2])], "labels of the source: .*inhomo"),
}


@pytest.mark.parametrize(("source", "message"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_source_of_images_is_refused_by_its_number(source, message):
    with pytest.raises(DataError, match=message):
        mj.Dataset("x", source, split(3), tuple("abc"), origin="here")


def test_an_error_of_the_source_tells_the_example():
    class Gone(Counted):
        def __getitem__(self, index):
            if index == 17:
                raise OSError("the disk is gone")
            return super().__getitem__(index)

    with pytest.raises(OSError, match="the disk is gone") as caught:
        read_source(Gone(WHOLE))
    assert caught.value.__notes__ == ["while reading example 17 of the source"]


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [([1, 2], np.int32), ([1.5, 2], np.float64), ([[0, 1], [1, 0]], np.int32)]
    + [([True, False], np.bool_), ([2**40, 0], np.int64)],
)
def test_labels_are_what_they_are(labels, dtype):
    _, got = read_source([(IMAGE, label) for label in labels])
    assert got.dtype == dtype and got.tolist() == labels


def test_an_image_that_changes_its_shape_is_named_while_training(never_whole):
    whole = [(IMAGE, 0)] * 20
    taken = as_split(whole)
    whole[13] = (IMAGE[1:], 0)
    with pytest.raises(DataError, match="image 13: is of shape 3x4x1"):
        fit(taken)
