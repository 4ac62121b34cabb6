import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from mnistjax.data import digits
from mnistjax.data.dataset import Dataset, Split
from mnistjax.data.digits import load_digits
from mnistjax.data.split import hold_out, subset
from mnistjax.data.stratified import stratified
from mnistjax.errors import DataError


def numbered(labels):
    """Images that hold their own index in two bytes."""
    index = np.arange(len(labels), dtype=np.uint16)
    return Split(index.view(np.uint8).reshape(-1, 1, 2, 1), np.asarray(labels, np.int32))


def shuffled_labels(per_class, seed):
    labels = np.repeat(np.arange(len(per_class)), per_class)
    return np.random.default_rng(seed).permutation(labels)


def indices(split):
    return split.images.reshape(-1, 2).copy().view(np.uint16)[:, 0].tolist()


@given(
    st.lists(st.integers(4, 40), min_size=2, max_size=5),
    st.floats(0.25, 0.75),
    st.integers(0, 2**32 - 1),
)
def test_parts_are_disjoint_ordered_and_stratified(per_class, fraction, seed):
    labels = shuffled_labels(per_class, seed)
    kept, held = hold_out(numbered(labels), fraction=fraction, seed=seed)
    assert sorted(indices(kept) + indices(held)) == list(range(len(labels)))
    for part in (kept, held):
        assert indices(part) == sorted(indices(part))
        np.testing.assert_array_equal(part.labels, labels[indices(part)])
    for label, count in enumerate(per_class):
        assert abs((held.labels == label).sum() - fraction * count) <= 1 + 1e-9


def test_the_seed_decides():
    split = numbered(np.arange(100) % 5)
    held = [indices(hold_out(split, fraction=0.2, seed=seed)[1]) for seed in (0, 0, 1)]
    assert held[0] == held[1] != held[2]


def test_a_class_with_one_example_is_refused():
    with pytest.raises(DataError, match="class 1: has 1 example.*Fix: add examples"):
        hold_out(numbered([0] * 10 + [1]), fraction=0.2, seed=0)


def test_subset_has_the_size_and_the_shares():
    split = numbered(np.arange(100) % 5)
    part = subset(split, size=30, seed=0)
    assert np.bincount(part.labels).tolist() == [6] * 5
    assert subset(split, size=100, seed=0) is split
    with pytest.raises(DataError, match="`size` 101: there are only 100.*size=100"):
        subset(split, size=101, seed=0)


def test_digits_are_always_the_same_and_stratified():
    data = load_digits()
    assert data.sha256 == load_digits().sha256
    assert (len(data.train.labels), len(data.test.labels)) == (1437, 360)
    assert data.train.images.shape[1:] == data.image_shape == (28, 28, 1)
    assert np.bincount(data.test.labels).min() >= 34
    assert data.train.images.min() == 0 and data.train.images.max() == 255


def test_the_digest_sees_every_pixel_and_label():
    data = load_digits()
    images, labels = data.test.images.copy(), data.test.labels.copy()
    images[3, 4, 5, 0] ^= 1
    labels[0] = (labels[0] + 1) % 10
    for test in (Split(images, data.test.labels), Split(data.test.images, labels)):
        other = Dataset("x", data.train, test, data.class_names, "made up")
        assert other.sha256 != data.sha256


def test_an_empty_split_is_refused():
    with pytest.raises(DataError, match="0 images"):
        Dataset("x", numbered([0, 1]), numbered([]), ("a", "b"), "made up")


@given(
    st.lists(st.integers(1, 30), min_size=2, max_size=6),
    st.floats(0.05, 0.95),
    st.integers(0, 2**32 - 1),
)
def test_a_sample_is_that_of_scikit_learn(per_class, share, seed):
    labels = shuffled_labels(per_class, seed)
    count = min(math.ceil(share * len(labels)), len(labels))
    try:
        _, theirs = train_test_split(
            np.arange(len(labels)), test_size=count, stratify=labels, random_state=seed
        )
    except ValueError:
        assert stratified(labels, count, seed=seed) is None
    else:
        np.testing.assert_array_equal(stratified(labels, count, seed=seed), np.sort(theirs))


def test_the_digits_are_those_of_scikit_learn(monkeypatch):
    found = digits._table()
    monkeypatch.setattr(digits, "find_spec", lambda name: None)  # kept elsewhere one day
    np.testing.assert_array_equal(found, digits._table())
