import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.test_util import check_grads

from mnistjax.data.batches import Batch
from mnistjax.models.cnn import CNN
from mnistjax.models.functional import functional
from mnistjax.ops import tiling
from mnistjax.ops.conv_pool import conv_pool
from mnistjax.ops.convolution import conv2d
from mnistjax.ops.normalization import local_response_norm
from mnistjax.ops.pooling import avg_pool, max_pool
from mnistjax.ops.winograd import conv2d_frozen, fits_winograd, freeze_kernel, winograd_conv
from mnistjax.ops.winograd_small import winograd_small
from mnistjax.training import micro_batch
from mnistjax.training.micro_batch import sum_over_micro_batches


def lax_conv(x, kernel, padding):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=numbers)


def error(ours, reference):
    ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    assert ours.shape == reference.shape
    return np.linalg.norm(ours - reference) / max(np.linalg.norm(reference), 1e-30)


def flax_avg_pool(*arguments):
    with jax.numpy_dtype_promotion("standard"):  # it divides a float by an int
        return nnx.avg_pool(*arguments)


def normal(random, *shape):
    return random.normal(size=shape)


def value_and_gradients(fn, seed, *arguments):
    """The value, and the gradients of its product with a random array."""
    shape = jax.eval_shape(fn, *arguments)
    g = jnp.asarray(np.random.default_rng(seed).normal(size=shape.shape), shape.dtype)

    @jax.jit
    def run(*arguments):
        y, pull = jax.vjp(fn, *arguments)
        return (y, *pull(g))

    return run(*arguments)


def test_convolution_by_definition():
    """Four loops over the output; the sum inside is the definition."""
    random = np.random.default_rng(0)
    x, kernel = normal(random, 2, 5, 4, 3), normal(random, 3, 2, 3, 6)
    y = np.zeros((2, 3, 3, 6))
    for b in range(2):
        for i in range(3):
            for j in range(3):
                for o in range(6):
                    y[b, i, j, o] = (x[b, i : i + 3, j : j + 2] * kernel[..., o]).sum()
    with jax.enable_x64(True):
        assert error(lax_conv(x, kernel, "VALID"), y) < 1e-14
        assert error(conv2d(jnp.array(x), jnp.array(kernel), padding="VALID"), y) < 1e-14


SHAPES = {
    "batch": st.integers(1, 3),
    "height": st.integers(1, 15),
    "width": st.integers(1, 15),
    "inputs": st.sampled_from([1, 2, 3, 8, 17]),
    "outputs": st.integers(1, 5),
    "k": st.sampled_from([1, 3, 5]),
    "padding": st.sampled_from(["SAME", "VALID"]),
    "seed": st.integers(0, 99),
}


@settings(max_examples=20)
@given(**SHAPES)
def test_conv2d_and_its_gradients(batch, height, width, inputs, outputs, k, padding, seed):
    if padding == "VALID":
        height, width = height + k - 1, width + k - 1
    random = np.random.default_rng(seed)
    x, kernel = normal(random, batch, height, width, inputs), normal(random, k, k, inputs, outputs)
    with jax.enable_x64(True):
        reference = value_and_gradients(lambda x, k: lax_conv(x, k, padding), seed, x, kernel)
        exact = value_and_gradients(
            lambda *a: conv2d(*a, padding=padding), seed, jnp.array(x), jnp.array(kernel)
        )
    single = [jnp.asarray(a, jnp.float32) for a in (x, kernel)]
    ours = value_and_gradients(lambda *a: conv2d(*a, padding=padding), seed, *single)
    limit = 1e-5 if fits_winograd(kernel.shape) else 2e-6
    for mine, double, its in zip(ours, exact, reference, strict=True):
        assert mine.dtype == jnp.float32
        # The sharp one; in float32 a gradient may cancel to nearly nothing.
        assert error(double, its) < 1e-12
        assert error(mine, its) < limit


@pytest.mark.parametrize("m", [2, 4, 5, 6])
def test_transformed_kernel_gives_the_same_map(m):
    random = np.random.default_rng(m)
    x = jnp.asarray(normal(random, 2, 11, 7, 8), jnp.float32)
    kernel = jnp.asarray(normal(random, 3, 3, 8, 4), jnp.float32)
    for padding in ("SAME", "VALID"):
        ours = conv2d_frozen(x, freeze_kernel(kernel, m), padding=padding)
        assert error(ours, lax_conv(x, kernel, padding)) < 1e-5


@pytest.mark.parametrize("m", [5, *(pytest.param(m, marks=pytest.mark.soak) for m in (2, 4, 6))])
def test_in_three_chains_the_same_map_and_gradients(m, monkeypatch):
    random = np.random.default_rng(m)
    x, kernel = normal(random, 2, 2 * m + 2, m + 2, 8), normal(random, 3, 3, 8, 4)
    with jax.enable_x64(True):
        x, kernel = jnp.array(x), jnp.array(kernel)
        expected = value_and_gradients(partial(lax_conv, padding="VALID"), m, x, kernel)
        for worth, chains in ((tiling.WORTH_CHAINS, 1), (0, tiling.PARTS)):
            monkeypatch.setattr(tiling, "WORTH_CHAINS", worth)
            jax.clear_caches()  # it is read while tracing
            pull = jax.vjp(partial(winograd_conv, m), x, kernel)[1]
            tiles = [leaf.shape[0] for leaf in jax.tree.leaves(pull) if leaf.ndim == 6]
            assert (len(tiles), sum(tiles)) == (chains, m + 2)
            ours = value_and_gradients(partial(winograd_conv, m), m, x, kernel)
            assert all(error(*pair) < 1e-12 for pair in zip(ours, expected, strict=True))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("m", [4, *(pytest.param(m, marks=pytest.mark.soak) for m in (2, 5, 6))])
def test_a_small_map_by_products_has_the_same_gradients(m, padding):
    random = np.random.default_rng(m)
    x, kernel = normal(random, 2, 7, 5, 8), normal(random, 3, 3, 8, 4)
    with jax.enable_x64(True):
        x, kernel = jnp.array(x), jnp.array(kernel)
        expected = value_and_gradients(partial(lax_conv, padding=padding), m, x, kernel)
        by_products = partial(winograd_small, m, padding == "SAME")
        ours = value_and_gradients(by_products, m, x, kernel)
    assert all(error(*pair) < 1e-12 for pair in zip(ours, expected, strict=True))


@pytest.mark.parametrize("inputs", [2, 8])
def test_conv2d_inside_jit_scan_vmap_and_twice_differentiated(inputs):
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        x = jnp.array(normal(random, 3, 2, 6, 5, inputs))
        kernel = jnp.array(normal(random, 3, 3, inputs, 4))
        ours, its = (lambda x: conv2d(x, kernel)), (lambda x: lax_conv(x, kernel, "SAME"))
        expected = jnp.stack([its(image) for image in x])
        assert error(jax.jit(jax.vmap(ours))(x), expected) < 1e-12
        assert error(lax.scan(lambda c, x: (c, ours(x)), 0, x)[1], expected) < 1e-12

        def twice(conv):
            inner = lambda x: jnp.sum(jnp.sin(conv(x)))  # noqa: E731
            return jax.grad(lambda x: jnp.sum(jax.grad(inner)(x) ** 2))(x[0])

        assert error(twice(ours), twice(its)) < 1e-11


def test_conv2d_falls_back_and_refuses():
    x, kernel = jnp.ones((1, 9, 9, 8)), jnp.ones((3, 3, 8, 2))
    assert conv2d(x, kernel, strides=(2, 2)).shape == (1, 5, 5, 2)
    assert conv2d(x, kernel, dilation=(2, 2), padding="VALID").shape == (1, 5, 5, 2)
    assert conv2d(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="does not fit"):
        conv2d(x[:, :2], kernel, padding="VALID")
    with pytest.raises(ValueError, match="must be 'SAME' or 'VALID'"):
        inspect.unwrap(conv2d)(x, kernel, padding="same")  # past the type checker of the tests


@settings(max_examples=12)
@given(**SHAPES, pool=st.sampled_from(["max", "avg"]))
def test_conv_pool(batch, height, width, inputs, outputs, k, padding, seed, pool):
    height, width = height + k, width + k
    random = np.random.default_rng(seed)
    flax_pool = {"max": nnx.max_pool, "avg": flax_avg_pool}[pool]

    def apart(x, kernel, bias):
        y = jax.nn.relu(lax_conv(x, kernel, padding) + bias.reshape(1, 1, 1, -1))
        return flax_pool(y, (2, 2), (2, 2))

    with jax.enable_x64(True):
        arguments = (
            jnp.array(normal(random, batch, height, width, inputs)),
            jnp.array(normal(random, k, k, inputs, outputs)),
            jnp.array(normal(random, outputs)),
        )
        ours = value_and_gradients(
            lambda *a: conv_pool(*a, pool=pool, padding=padding), seed, *arguments
        )
        for mine, its in zip(ours, value_and_gradients(apart, seed, *arguments), strict=True):
            np.testing.assert_allclose(mine, its, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("inputs", [1, 8])
def test_conv_pool_computes_only_what_is_asked(inputs):
    random = np.random.default_rng(0)
    x = jnp.asarray(normal(random, 2, 13, 13, inputs), jnp.float32)
    kernel, bias = jnp.asarray(normal(random, 3, 3, inputs, 4), jnp.float32), jnp.zeros(4)
    whole = conv_pool(x, kernel, bias, padding="VALID")
    part = conv_pool(x, kernel, bias, padding="VALID", size=(3, 4))
    np.testing.assert_allclose(part, whole[:, :3, :4], rtol=1e-4, atol=1e-5)
    unread = x.at[:, 8:].set(jnp.nan).at[:, :, 10:].set(jnp.nan)
    np.testing.assert_array_equal(
        part, conv_pool(unread, kernel, bias, padding="VALID", size=(3, 4))
    )
    with pytest.raises(ValueError, match="pools to 5x5"):
        conv_pool(x, kernel, bias, padding="VALID", size=(6, 1))


def pools_equal_flax(shape, window, *, atol=0.0, **options):
    x = jnp.round(jax.random.normal(jax.random.key(0), shape))  # rounded: ties
    usual = {"strides": window} | options
    means = partial(nnx.avg_pool, count_include_pad=False)
    for ours, its in ((max_pool, nnx.max_pool), (avg_pool, means)):
        mine = value_and_gradients(lambda x, f=ours: f(x, window, **options), 0, x)
        with jax.numpy_dtype_promotion("standard"):  # it divides a float by an int
            theirs = value_and_gradients(lambda x, f=its: f(x, window, **usual), 0, x)
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=atol)


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 5, 7, 2), (1, 2, 2, 1), (1, 1, 3, 1)])
@pytest.mark.parametrize("window", [(2, 2), (3, 2)])
def test_pools_equal_flax(shape, window):
    pools_equal_flax(shape, window)


@settings(max_examples=15)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    window=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.sampled_from(["SAME", "VALID"]),
)
def test_pools_of_any_window_equal_flax(size, window, strides, padding):
    # Where windows overlap, gradients of both signs add up in another order.
    pools_equal_flax((2, *size, 3), window, strides=strides, padding=padding, atol=1e-6)


@pytest.mark.cpu
@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_no_loop_over_windows_is_left_on_a_cpu(pool):
    x = jnp.ones((2, 9, 9, 4))
    both = partial(value_and_gradients, partial(pool, window=(3, 3), strides=(2, 2)), 0)
    text = jax.jit(both).trace(x).lower().as_text()
    assert "reduce_window" not in text and "select_and_scatter" not in text
    elsewhere = jax.jit(both).trace(x).lower(lowering_platforms=("cuda",)).as_text()
    assert "reduce_window" in elsewhere


def test_ties_give_their_gradient_to_the_first():
    x, ones = jnp.ones((1, 2, 2, 1)), jnp.ones((1, 1, 1, 1))
    assert jax.grad(lambda x: max_pool(x).sum())(x).ravel().tolist() == [1, 0, 0, 0]
    three = jax.grad(lambda x: max_pool(x, (3, 3), strides=(2, 2)).sum())(jnp.ones((1, 5, 5, 1)))
    assert jnp.argwhere(three[0, :, :, 0]).tolist() == [[0, 0], [0, 2], [2, 0], [2, 2]]
    fused = jax.grad(lambda x: conv_pool(x, ones, jnp.zeros(1)).sum())(x)
    assert fused.ravel().tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_local_response_norm_by_definition(n):
    random = np.random.default_rng(n)
    x = normal(random, 2, 3, 2, 7)
    expected = np.zeros_like(x)
    for c in range(7):
        near = x[..., max(0, c - n // 2) : c + (n - 1) // 2 + 1]
        expected[..., c] = x[..., c] / (1.5 + 0.3 * (near**2).sum(-1)) ** 0.6
    with jax.enable_x64(True):
        norm = lambda x: local_response_norm(jnp.asarray(x), n=n, k=1.5, alpha=0.3, beta=0.6)  # noqa: E731
        assert error(norm(jnp.array(x)), expected) < 1e-14
        check_grads(norm, (jnp.array(x),), order=1, modes=["rev"])
    with pytest.raises(ValueError, match="n 0"):
        local_response_norm(jnp.array(x, jnp.float32), n=0)


def test_cnn_trains_as_the_usual_one_for_20_steps():
    """Fast and default lowerings, plain SGD in float64: the same curve to rounding."""
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        apply_fn, params = functional(CNN(image_shape=(12, 12, 1), rngs=nnx.Rngs(0)))
        params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), params)
        images, labels = jnp.array(random.random((16, 12, 12, 1))), jnp.arange(16) % 10

        def usual(params, x):
            for name in ("conv1", "conv2"):
                x = lax_conv(x, params[name]["kernel"], "VALID")
                x = jax.nn.relu(x + params[name]["bias"].reshape(1, 1, 1, -1))
                x = nnx.max_pool(x, (2, 2), (2, 2))
            x = x.reshape(len(x), -1) @ params["dense1"]["kernel"]
            x = jax.nn.relu(x + params["dense1"]["bias"].reshape(1, -1))
            return x @ params["dense2"]["kernel"] + params["dense2"]["bias"].reshape(1, -1)

        def curve(apply_fn):
            def loss_fn(params):
                logp = jax.nn.log_softmax(apply_fn(params, images))
                return -logp[jnp.arange(16), labels].mean()

            def step(params, _):
                loss, grads = jax.value_and_grad(loss_fn)(params)
                return jax.tree.map(lambda p, g: p - 0.05 * g, params, grads), loss

            return jax.jit(lambda p: lax.scan(step, p, length=20)[1])(params)

        np.testing.assert_allclose(curve(apply_fn), curve(usual), rtol=1e-8)


@pytest.mark.parametrize("pixels", [micro_batch.CPU_PIXELS, 1])
@pytest.mark.parametrize("count", [1, 6, 7, 12])
def test_sums_over_portions_are_the_sums_over_the_batch(count, pixels, monkeypatch):
    """With a limit of one pixel in turn, else two side by side."""
    monkeypatch.setattr(micro_batch, "CPU_PIXELS", pixels)
    batch = Batch(
        jnp.ones((count, 2, 2, 1), jnp.uint8), jnp.arange(count), jnp.arange(count) % 3 > 0
    )

    def fn(batch):
        return {"sum": jnp.sum(jnp.where(batch.mask, batch.labels, 0)), "rows": jnp.sum(batch.mask)}

    assert sum_over_micro_batches(fn, batch, 4) == fn(batch)
    equations = jax.make_jaxpr(lambda batch: sum_over_micro_batches(fn, batch, 4))(batch).eqns
    scans = [e.params for e in equations if e.primitive is lax.scan_p]
    at_once = 1 if pixels == 1 else 2
    portions = at_once * -(-count // (4 * at_once))
    expected = [(portions, at_once)] if count > 4 else []
    assert [(scan["length"], scan["unroll"]) for scan in scans] == expected
