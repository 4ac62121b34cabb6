import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import mnistjax as mj
from mnistjax.errors import DataError, UsageError
from mnistjax.models.cnn import CNN
from mnistjax.models.functional import functional
from mnistjax.models.head import FineTuned
from mnistjax.models.summary import summarise
from mnistjax.ops.pooling import max_pool


def test_cnn_has_the_parameters_of_the_tutorials():
    _, params = functional(CNN(rngs=nnx.Rngs(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 225_034


def test_cnn_equals_the_usual_order_of_relu_and_pool():
    model = CNN(rngs=nnx.Rngs(1))
    images = jax.random.uniform(jax.random.key(0), (3, 28, 28, 1))
    x = images
    for conv in (model.conv1, model.conv2):
        x = jax.lax.conv_general_dilated(
            x, conv.kernel[...], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = nnx.max_pool(nnx.relu(x), (2, 2), (2, 2))
    usual = model.dense2(nnx.relu(model.dense1(x.reshape(3, -1))))
    np.testing.assert_allclose(model(images), usual, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(10, 10, 1), (28, 28, 3), (33, 47, 1)])
def test_cnn_takes_other_image_shapes(shape):
    model = CNN(image_shape=shape, num_classes=3, rngs=nnx.Rngs(0))
    assert model(jnp.zeros((2, *shape))).shape == (2, 3)


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 5, 7, 2), (1, 2, 2, 1)])
def test_max_pool_and_its_gradient_equal_flax(shape):
    x = jax.random.normal(jax.random.key(0), shape)

    def pooled(pool, x):
        y = pool(x)
        return jnp.sum(y * jnp.arange(y.size, dtype=x.dtype).reshape(y.shape)), y

    ours, theirs = max_pool, lambda x: nnx.max_pool(x, (2, 2), (2, 2))
    for mine, its in zip(
        jax.value_and_grad(lambda x: pooled(ours, x), has_aux=True)(x)[0:2],
        jax.value_and_grad(lambda x: pooled(theirs, x), has_aux=True)(x)[0:2],
        strict=True,
    ):
        jax.tree.map(np.testing.assert_array_equal, mine, its)


def test_functional_is_pure_and_leaves_the_module_usable():
    model = CNN(rngs=nnx.Rngs(0))
    apply_fn, params = functional(model)
    images = jnp.ones((1, 28, 28, 1))
    jax.jit(lambda p: jax.tree.map(jnp.negative, p), donate_argnums=0)(params)
    again = functional(model)[1]
    np.testing.assert_array_equal(apply_fn(again, images), model(images))


def test_functional_refuses_state_that_is_no_parameter():
    with pytest.raises(UsageError, match="BatchNorm: holds state .* functional_with_state"):
        functional(nnx.BatchNorm(3, rngs=nnx.Rngs(0)))


@pytest.mark.cpu
def test_summary_counts_what_the_compiler_counts():
    model = CNN(rngs=nnx.Rngs(0))
    rows = summarise(model, (28, 28, 1))
    shapes = {"conv1": (1, 26, 26, 1), "conv2": (1, 12, 12, 32)}  # what is read

    def convolve(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=numbers)

    for row in rows[:2]:
        layer = getattr(model, row.name)
        lowered = jax.jit(convolve).lower(jnp.zeros(shapes[row.name]), layer.kernel[...])
        cost = lowered.cost_analysis()
        assert cost is not None
        bias = 4 * int(np.prod(row.output))
        assert row.flops == pytest.approx(cost["flops"] + bias, rel=1e-6)
    assert [row.output for row in rows] == [(12, 12, 32), (5, 5, 64), (128,), (10,)]
    assert rows[2].flops == 2 * 1600 * 128 + 128


def test_summary_leaves_the_model_as_it_was():
    model = CNN(rngs=nnx.Rngs(0))
    summarise(model, (28, 28, 1))
    functional(model)
    assert optax.tree.norm(nnx.to_pure_dict(nnx.state(model, nnx.Param))) > 0


@pytest.mark.parametrize("shape", [(56, 56, 1), (28, 28, 3), (27, 28, 1)])
def test_images_of_another_shape_are_refused(shape):
    model = CNN(rngs=nnx.Rngs(0))
    apply_fn, params = functional(model)
    split = mj.Split(np.zeros((4, *shape), np.uint8), np.zeros(4, np.int32))
    with pytest.raises(DataError, match="this CNN was made for 28x28x1"):
        mj.evaluate(mj.make_eval_step(apply_fn=apply_fn), params, split)
    gap = FineTuned(input_shape=(32, 32, 3), blocks=["block1"], kind="gap", rngs=nnx.Rngs(0))
    with pytest.raises(DataError, match="made for 32x32x3"):
        gap(jnp.zeros((1, 64, 64, 3)))
