import numpy as np
import pytest

from mnistjax.frozen.statistics import mean_and_scale


@pytest.mark.parametrize("rows", [None, np.array([5, 1, 2, 900])])
def test_mean_and_scale_are_numpys(rows, monkeypatch):
    monkeypatch.setattr("mnistjax.frozen.statistics.CHUNK_VALUES", 700)
    random = np.random.default_rng(0)
    features = random.standard_normal((1001, 3, 5)) * np.arange(1, 6) + 1000
    features = features.astype(np.float32)
    features[:, 0, 0] = 0.1  # constant, and no binary fraction
    features[:, 0, 1] = 0
    mean, scale = mean_and_scale(features, rows=rows)
    chosen = (features if rows is None else features[rows]).astype(np.float64)
    np.testing.assert_allclose(mean, chosen.mean(axis=0), rtol=1e-6)
    deviation = chosen.std(axis=0)
    deviation[0, :2] = 1
    np.testing.assert_allclose(scale, 1 / deviation, rtol=1e-6)
    assert mean.dtype == scale.dtype == np.float32


def test_no_scale_is_infinite():
    features = np.array([[0, 1e-45, 3e38], [0, 0, -3e38], [0, 0, 3e38]], np.float32)
    assert np.all(np.isfinite(mean_and_scale(features)))
    assert np.all(np.isfinite(mean_and_scale(features[:1])))
