"""Work in portions that suit a cache: what it gives is what the whole gives."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

from mnistjax.ops import portions
from mnistjax.ops.convolution import conv2d
from mnistjax.ops.general import conv_general_dilated
from mnistjax.ops.portions import over_portions, portion_size

NUMBERS = "NHWC", "HWIO", "NHWC"


@given(st.integers(1, 300), st.integers(1, 10**7), st.integers(1, 10**8))
def test_portions_are_alike_and_neither_too_large_nor_too_small(batch, each, shared):
    size = portion_size(batch, each, shared)
    if size is not None:
        most = max(portions.PORTION, shared // 2)
        assert batch % size == 0 and size >= 2 and most / 2 - each < size * each <= most
        assert batch * each > portions.FITS


def all_in_portions(monkeypatch, examples):
    monkeypatch.setattr(portions, "FITS", 0)
    for module in ("winograd", "general"):
        monkeypatch.setattr(f"mnistjax.ops.{module}.portion_size", lambda *_: examples)
    jax.clear_caches()  # it is read while tracing


@pytest.mark.cpu
@pytest.mark.parametrize(("stride", "padding"), [(1, "SAME"), (1, "VALID"), (2, "SAME")])
def test_a_convolution_in_portions_is_that_of_jax(monkeypatch, stride, padding):
    random = np.random.default_rng(0)
    all_in_portions(monkeypatch, 2)
    with jax.enable_x64(True):
        x, kernel = (jnp.asarray(random.normal(size=s)) for s in ((6, 13, 11, 8), (3, 3, 8, 4)))

        def both(conv):
            def run(x, kernel):
                y = conv(x, kernel, (stride, stride), padding, dimension_numbers=NUMBERS)
                return (y * jnp.cos(jnp.arange(y.size).reshape(y.shape))).sum(), y

            return jax.jit(jax.grad(run, (0, 1), has_aux=True))

        ours = both(conv_general_dilated)
        assert "while" in ours.lower(x, kernel).as_text()
        for mine, its in zip(
            jax.tree.leaves(ours(x, kernel)),
            jax.tree.leaves(both(lax.conv_general_dilated)(x, kernel)),
            strict=True,
        ):
            np.testing.assert_allclose(mine, its, atol=1e-10)


@pytest.mark.cpu
def test_a_gradient_keeps_no_tiles():
    """64 maps of 32x32x64 have 38 MB of them, and as many of products."""
    x, kernel = jax.ShapeDtypeStruct((64, 32, 32, 64), "float32"), jnp.ones((3, 3, 64, 64))

    def loss(x, kernel):
        return (conv2d(x, kernel) ** 2).sum()

    program = jax.jit(jax.grad(loss, (0, 1))).lower(x, kernel).compile()
    used = program.memory_analysis()
    assert used is not None
    assert used.temp_size_in_bytes < 3 * math.prod(x.shape) * 4  # a map, its gradient, a portion


def test_what_does_not_divide_is_done_at_once():
    assert portion_size(61, 10**6, 1) is None
    assert over_portions(jnp.sin, jnp.ones((5, 2)), 2).shape == (5, 2)


def test_an_open_batch_is_done_at_once():
    (batch,) = jax.export.symbolic_shape("b")
    assert portion_size(batch, 10**9, 1) is None
