"""All features in a cache together keep to its limit; the ones used longest ago go."""

import os

import jax.numpy as jnp
import numpy as np

from mnistjax.disk import locked
from mnistjax.frozen.cache import cached_features, features_key
from mnistjax.rows.cache import Cached, TooLarge

IMAGES = np.zeros((10, 2, 2, 1), np.uint8)
BYTES = 10 * 100 * 4 + 128  # of 100 features an image, and .npy's header


def use(directory, name, limit_bytes):
    got = cached_features(
        lambda images: jnp.ones((len(images), 100)),
        IMAGES,
        key=features_key(name=name),
        directory=directory,
        batch_size=5,
        limit_bytes=limit_bytes,
        quiet=True,
    )
    if isinstance(got, Cached):  # a clock may be coarser than a test is slow
        for path in directory.glob("*/record.json"):
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**9))
    return got


def computed(got):
    assert isinstance(got, Cached)
    return got.computed


def kept(directory):
    names = {features_key(name=name): name for name in ("a", "b", "c")}
    return "".join(sorted(names[path.parent.name] for path in directory.glob("*/record.json")))


def test_what_was_used_longest_ago_goes(tmp_path):
    for name in ("a", "b", "a"):
        use(tmp_path, name, 2 * BYTES)
    assert kept(tmp_path) == "ab"  # what is there needs no room again
    use(tmp_path, "c", 2 * BYTES)  # found again, "a" is younger than "b"
    assert kept(tmp_path) == "ac"
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*.npy")) <= 2 * BYTES
    assert computed(use(tmp_path, "a", 2 * BYTES)) == 0
    assert computed(use(tmp_path, "b", 2 * BYTES)) == 10
    assert kept(tmp_path) == "ab"


def test_what_could_never_fit_deletes_nothing(tmp_path):
    use(tmp_path, "a", 2 * BYTES)
    assert isinstance(use(tmp_path, "b", 100), TooLarge)
    assert kept(tmp_path) == "a"


def test_features_being_computed_by_another_process_stay(tmp_path):
    for name in ("a", "b"):
        use(tmp_path, name, 2 * BYTES)
    with locked(tmp_path / features_key(name="a") / "lock", should_stop=lambda: True) as alone:
        assert alone
        use(tmp_path, "c", 2 * BYTES)
    assert kept(tmp_path) == "ac"


def test_mapped_features_outlive_their_file(tmp_path):
    got = use(tmp_path, "a", BYTES)
    use(tmp_path, "b", BYTES)
    assert kept(tmp_path) == "b"
    assert isinstance(got, Cached) and (got.rows == 1).all()
