"""Batch normalisation: Flax's to rounding, in values, statistics and gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import mnistjax as mj
from mnistjax.models.functional import functional_with_state
from mnistjax.ops.batch_norm import batch_norm
from mnistjax.ops.channel_sums import channel_sums
from mnistjax.ops.speed_up import BatchNorm, speed_up


@pytest.fixture(autouse=True)
def flax_promotes():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def norms(channels, **settings: Any):
    """Flax's, and ours of the same parameters."""
    usual: Any = nnx.BatchNorm(channels, rngs=nnx.Rngs(0), **settings)
    random = np.random.default_rng(0)
    usual.scale[...] = jnp.asarray(random.normal(size=channels), usual.scale[...].dtype)
    usual.bias[...] = jnp.asarray(random.normal(size=channels), usual.bias[...].dtype)
    for name in ("mean", "var"):  # Flax has them in float32
        wide = getattr(usual, name)[...].astype(settings.get("param_dtype", "float32"))
        setattr(usual, name, nnx.BatchStat(wide))
    ours = nnx.clone(usual)
    assert speed_up(nnx.Sequential(ours)) == ["layers/0"] and type(ours) is BatchNorm
    return usual, ours


def pure(norm):
    """(params, x) -> output and statistics, in training; and the parameters."""
    apply_fn, params, model_state = functional_with_state(norm)
    return lambda params, x: apply_fn(params, model_state, x, jax.random.key(0)), params


def all_of(norm, x):
    """Gradients of parameters and x, the output, the statistics kept."""
    fn, params = pure(norm)

    def run(params, x):
        y, state = fn(params, x)
        towards = np.random.default_rng(1).normal(size=y.shape)
        return (y * jnp.asarray(towards, y.dtype)).sum(), (y, state)

    return jax.tree.leaves(jax.jit(jax.grad(run, (0, 1), has_aux=True))(params, x))


def assert_alike(mine, its, **how):
    for one, other in zip(mine, its, strict=True):
        assert one.dtype == other.dtype
        got, wanted = (np.asarray(a, np.float64) for a in (one, other))
        np.testing.assert_allclose(got, wanted, **how)


def some(shape, dtype="float32"):
    return jnp.asarray(3 + 2 * np.random.default_rng(2).normal(size=shape), dtype)


@settings(max_examples=12)
@given(
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    channels=st.integers(1, 9),
    epsilon=st.sampled_from([1e-5, 0.1]),
    momentum=st.sampled_from([0.5, 0.99]),
)
def test_it_is_that_of_flax_in_float64(shape, channels, epsilon, momentum):
    with jax.enable_x64(True):
        usual, ours = norms(channels, epsilon=epsilon, momentum=momentum, param_dtype="float64")
        x = some((*shape, channels), "float64")
        if x.size == channels:  # one value, whose variance is rounding
            return
        assert_alike(all_of(ours, x), all_of(usual, x), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_of_16_bits_only_the_result_is_rounded(dtype):
    usual, ours = norms(8, dtype=dtype)
    x = some((4, 5, 5, 8), dtype)
    assert_alike(all_of(ours, x), all_of(usual, x), rtol=0.05, atol=0.1)


def test_second_derivatives():
    with jax.enable_x64(True):
        usual, ours = norms(3, param_dtype="float64")
        x = some((4, 3, 3, 3), "float64")

        def slope(norm):
            fn, params = pure(norm)

            def loss(x):
                return (fn(params, x)[0] ** 3).sum()

            return jax.jit(jax.grad(lambda x: (jax.grad(loss)(x) ** 2).sum()))(x)

        np.testing.assert_allclose(slope(ours), slope(usual), rtol=1e-6, atol=1e-6)


OTHERS: dict[str, dict[str, Any]] = {
    "no scale": {"use_scale": False},
    "no bias": {"use_bias": False},
    "slow variance": {"use_fast_variance": False},
    "another axis": {"axis": 1},
}


@pytest.mark.parametrize("settings", OTHERS.values(), ids=OTHERS)
def test_all_else_is_flax_to_the_bit(settings):
    x = some((4, 3, 5, 3))
    usual = nnx.BatchNorm(3, rngs=nnx.Rngs(0), **settings)
    ours = nnx.clone(usual)
    speed_up(ours)
    assert_alike(all_of(ours, x), all_of(usual, x), rtol=0)


def test_masks_and_running_averages_are_flax_to_the_bit():
    usual, ours = norms(3)
    x, mask = some((4, 5, 5, 3)), jnp.arange(4).reshape(4, 1, 1, 1) < 3
    np.testing.assert_array_equal(ours(x, mask=mask), usual(x, mask=mask))
    np.testing.assert_array_equal(ours(x, True), usual(x, True))
    usual.use_running_average = ours.use_running_average = None
    with pytest.raises(ValueError, match="use_running_average"):
        ours(x)


def test_statistics_of_many_are_sharper_than_one_sum():
    x = jnp.asarray(np.random.default_rng(0).random((64, 32, 32, 4), np.float32)) + 100
    exact = np.asarray(x, np.float64).sum((0, 1, 2))
    sums, _ = channel_sums(x, x * x)
    assert np.abs(np.asarray(sums) / exact - 1).max() < 1e-6


def test_the_statistics_have_gradients_too():
    with jax.enable_x64(True):
        x, one = some((3, 4, 5, 2), "float64"), jnp.ones(2, "float64")

        def loss(x):
            y, mean, var = batch_norm(x, 2 * one, one)
            return (jnp.sin(y)).sum() + (mean**3).sum() + (var**2).sum()

        with mj.as_lax():
            usual = jax.grad(loss)(x)
        np.testing.assert_allclose(jax.grad(loss)(x), usual, rtol=1e-9)


def test_forward_mode_within_as_lax():
    x, one = some((2, 3, 3, 4)), jnp.ones(4)
    with mj.as_lax():
        out, along = jax.jvp(lambda x: batch_norm(x, one, one)[0], (x,), (x,))
    assert out.shape == along.shape == x.shape


@pytest.mark.cpu
def test_a_gradient_needs_less_memory():
    """Of x it keeps x: Flax's has x - mean beside it."""
    x = some((32, 16, 16, 16))

    def needs(norm):
        fn, params = pure(norm)
        back = jax.grad(lambda params, x: (jax.nn.relu(fn(params, 2 * x)[0]) ** 2).sum(), (0, 1))
        used: Any = jax.jit(back).lower(params, x).compile().memory_analysis()
        return used.temp_size_in_bytes

    ours, usual = map(needs, reversed(norms(16)))
    assert ours <= usual - 0.8 * x.nbytes
