"""16-bit floats: operations round once or nearly so, and what is kept stays float32."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from test_ops import error, value_and_gradients

from mnistjax.data.batches import Batch
from mnistjax.frozen.forward import make_frozen
from mnistjax.models.cnn import CNN
from mnistjax.models.functional import functional
from mnistjax.models.head import FineTuned, Head
from mnistjax.ops import winograd_transforms
from mnistjax.ops.conv_pool import conv_pool
from mnistjax.ops.convolution import conv2d
from mnistjax.ops.normalization import local_response_norm
from mnistjax.ops.pooling import avg_pool, max_pool
from mnistjax.ops.winograd import conv2d_frozen, freeze_kernel
from mnistjax.training.evaluate import make_eval_step
from mnistjax.training.state import init_state
from mnistjax.training.step import make_train_step
from mnistjax.weights.source import load_weights

OPERATIONS = {
    "Winograd": (conv2d, [(2, 9, 9, 8), (3, 3, 8, 4)]),
    "patches": (conv2d, [(2, 9, 9, 3), (3, 3, 3, 4)]),
    "a window's patches": (conv_pool, [(2, 8, 8, 1), (3, 3, 1, 4), (4,)]),
    "Winograd and maximum": (conv_pool, [(2, 8, 8, 8), (3, 3, 8, 4), (4,)]),
    "Winograd and mean": (partial(conv_pool, pool="avg"), [(2, 8, 8, 8), (3, 3, 8, 4), (4,)]),
    "maximum": (max_pool, [(2, 6, 6, 3)]),
    "mean": (avg_pool, [(2, 6, 6, 3)]),
    "mean of an odd window": (partial(avg_pool, window=(3, 2)), [(2, 6, 6, 3)]),
    "normalisation": (local_response_norm, [(2, 3, 3, 8)]),
}


def by_winograd(name, dtype):
    """Whether tiles of 16 bits are multiplied: rounded more than once, for twice the speed."""
    return "Winograd" in name and dtype == jnp.bfloat16


@pytest.mark.cpu
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_rounds_once(name, dtype):
    operation, shapes = OPERATIONS[name]
    random = np.random.default_rng(0)
    arrays = [jnp.asarray(random.normal(size=shape), dtype) for shape in shapes]
    got = value_and_gradients(operation, 1, *arrays)
    assert all(array.dtype == dtype for array in got)
    with jax.enable_x64(True):
        exact = np.asarray(operation(*(jnp.asarray(np.asarray(a, np.float64)) for a in arrays)))
    if by_winograd(name, dtype):
        assert 1e-3 < error(got[0], exact) < 2e-2
        return
    half_a_place = float(jnp.finfo(dtype).eps) / 2
    bound = 1.01 * half_a_place * np.abs(exact) + 1e-5 * np.abs(exact).max()
    assert (np.abs(np.asarray(got[0], np.float64) - exact) <= bound).all()


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_in_bfloat16_are_those_of_float32_to_its_digits(name):
    operation, shapes = OPERATIONS[name]
    random = np.random.default_rng(0)
    half = [jnp.asarray(random.normal(size=shape), jnp.bfloat16) for shape in shapes]
    single = [array.astype(jnp.float32) for array in half]
    ours = value_and_gradients(operation, 1, *half)
    for gradient, reference in zip(ours, value_and_gradients(operation, 1, *single), strict=True):
        # A ReLU's gradient is all or nothing: where 1.4 % of error turns the sign of one value in
        # a hundred, the gradients differ by a tenth.
        most = {"Winograd": 2**-5, "Winograd and maximum": 0.15, "Winograd and mean": 0.15}
        assert error(gradient, reference) < most.get(name, 2**-7)


@pytest.mark.parametrize(("m", "most"), [(2, 6e-3), (4, 2e-2)])
def test_a_frozen_kernel_of_bfloat16_takes_and_gives_it(m, most):
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(size=(2, 9, 9, 32)), jnp.bfloat16)
    kernel = jnp.asarray(random.normal(size=(3, 3, 32, 4)), jnp.float32)
    parts = freeze_kernel(kernel, m, jnp.bfloat16)
    y = conv2d_frozen(x, parts)
    assert {array.dtype for array in (y, *parts)} == {jnp.dtype(jnp.bfloat16)}
    assert 1e-3 < error(y, conv2d(x.astype(jnp.float32), kernel)) < most


def test_products_of_bfloat16_are_summed_in_float32():
    """Of 4096 channels of 1 a bfloat16 sum would stop at 256."""
    v = jnp.ones((1, 1, 1, 1, 1, 4096), jnp.bfloat16)
    u = jnp.ones((1, 1, 4096, 8), jnp.bfloat16)
    assert winograd_transforms.multiply(v, u).tolist() == [[[[[[4096.0] * 8]]]]]
    dv, du = winograd_transforms.multiply_adjoint(v, u, jnp.ones((1, 1, 1, 1, 1, 8), jnp.bfloat16))
    assert dv.dtype == du.dtype == jnp.float32


CASES = {
    "CNN": (partial(CNN, image_shape=(12, 12, 1), lrn=True), (4, 12, 12, 1)),
    "mean": (partial(CNN, image_shape=(12, 12, 1), pool="avg"), (4, 12, 12, 1)),
    "VGG16": (partial(FineTuned, input_shape=(8, 8, 64), blocks=["block2"]), (4, 8, 8, 64)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_model_in_bfloat16_keeps_float32_parameters(name):
    make, shape = CASES[name]
    apply_fn, params = functional(make(rngs=nnx.Rngs(0)))
    half, same = functional(make(dtype="bfloat16", rngs=nnx.Rngs(0)))
    apply_fn, half = jax.jit(apply_fn), jax.jit(half)
    jax.tree.map(np.testing.assert_array_equal, params, same)
    images = jax.random.uniform(jax.random.key(0), shape)
    logits = half(params, images)
    assert logits.dtype == jnp.bfloat16
    assert 1e-5 < error(logits, apply_fn(params, images)) < 2e-2
    program = str(jax.make_jaxpr(half)(params, images))
    elsewhere = re.findall(r":(\w+)\[[\d,]*\] = conv_general_dilated\[", program)
    assert elsewhere and set(elsewhere) == {"bf16"}  # what a GPU or TPU gets
    gradients = jax.eval_shape(jax.grad(lambda params: half(params, images).sum()), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype(jnp.float32)}


def test_features_that_hardly_vary_are_standardised_in_float32():
    """Of 100 and 101 the mean in bfloat16 is one of them, and half a place 25 deviations."""
    head = Head(map_shape=(1, 1, 1), standardise=True, dtype="bfloat16", rngs=nnx.Rngs(0))
    assert head.standardise is not None
    head.standardise.mean[...] = jnp.array([100.3])
    head.standardise.scale[...] = jnp.array([100.0])
    x = jnp.array([[100.31], [100.3], [100.29]])
    np.testing.assert_allclose(head.standardise(x), [[1.0], [0.0], [-1.0]], atol=1e-3)
    logits = head(x.reshape(3, 1, 1, 1)).astype(jnp.float32)
    assert jnp.abs(logits[0] - logits[1]).max() > 0.1


def linear(params, images):
    images = images.reshape(len(images), -1).astype(jnp.bfloat16)
    return images @ params["w"].astype(jnp.bfloat16)


def test_small_updates_are_not_lost_and_a_loss_has_its_digits():
    """Added to a bfloat16 parameter of 1, a thousandth is nothing; float32 keeps it."""
    tx = optax.sgd(1e-3)
    step, eval_step = make_train_step(apply_fn=linear, tx=tx), make_eval_step(apply_fn=linear)
    state = init_state({"w": jnp.ones((4, 3))}, tx)
    batch = Batch(jnp.full((2, 2, 2, 1), 255, jnp.uint8), jnp.array([0, 0]), jnp.ones(2, bool))
    metrics, logits = eval_step(state.params, batch)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(metrics.loss, np.log(3), rtol=1e-6)
    for _ in range(3):
        state, metrics = step(state, batch)
        np.testing.assert_allclose(metrics.loss, np.log(3), rtol=1e-6)
    np.testing.assert_allclose(state.params["w"][:, 0], 1.002, atol=1e-5)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_frozen_blocks_compute_in_bfloat16_and_give_float32(platform):
    """On a CPU by Winograd; the other form is what a GPU gets."""
    params = load_weights("random", cut="block3").params
    images = 50 * jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    arguments = {"blocks": ["block1", "block2"], "image_size": 16, "platform": platform}
    constant, apply_fn = make_frozen(params, **arguments)
    single = jax.jit(apply_fn)(constant, images)
    constant, apply_fn = make_frozen(params, **arguments, dtype="bfloat16")
    half = jax.jit(apply_fn)(constant, images)
    assert half.dtype == jnp.float32
    if platform == "gpu":
        np.testing.assert_array_equal(half, half.astype(jnp.bfloat16).astype(jnp.float32))
    assert any(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(constant))
    assert 1e-4 < error(half, single) < 2e-2
