"""Parity with Keras's VGG16 on random weights, whole, in parts and frozen."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from mnistjax.frozen import forward as frozen
from mnistjax.frozen.forward import make_frozen
from mnistjax.models.functional import functional
from mnistjax.models.head import FineTuned, Head, as_vector
from mnistjax.models.summary import summarise
from mnistjax.models.vgg16 import VGG16, convolutions, map_shape
from mnistjax.models.vgg16_table import table, tensors
from mnistjax.weights.preprocess import to_vgg_input
from mnistjax.weights.source import load_weights

BLOCKS = ("block1", "block2", "block3", "block4", "block5")


def error(ours, reference):
    ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    assert ours.shape == reference.shape
    return np.linalg.norm(ours - reference) / np.linalg.norm(reference)


@cache
def vgg_apply(*blocks):
    """Without first values: drawing them takes longer than the tests do."""
    module = nnx.eval_shape(lambda: VGG16(blocks=blocks, rngs=nnx.Rngs(0)))
    graphdef, _ = nnx.split(module, nnx.Param)
    return jax.jit(lambda params, x: nnx.merge(graphdef, params)(x))


def part(params, *blocks):
    return {layer: params[layer] for of in convolutions(blocks).values() for layer in of}


@pytest.fixture(scope="module")
def keras_params(keras_vgg16):
    params = {}
    for layer in keras_vgg16.layers:
        if layer.get_weights():
            kernel, bias = layer.get_weights()
            params[layer.name] = {"kernel": jnp.array(kernel), "bias": jnp.array(bias)}
    return params


@pytest.fixture(scope="module")
def some_params():
    return jax.tree.map(jnp.array, load_weights("random", cut="block3", seed=3).params)


def keras_maps(model, images):
    """Layer by layer: the map after each block."""
    maps, x = {}, images
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for layer in model.layers[1:]:
            x = layer(x)
            if layer.name.endswith("_pool"):
                maps[layer.name.removesuffix("_pool")] = np.asarray(x)
    return maps


def keras_input(images, size):
    """Keras's own resizing and preprocessing."""
    import keras

    rgb = np.repeat(images, 3, -1).astype(np.float32)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        large = keras.ops.image.resize(rgb, (size, size), interpolation="bilinear")
        return jnp.array(keras.applications.vgg16.preprocess_input(np.array(large)))


@pytest.mark.parametrize("size", [32, pytest.param(64, marks=pytest.mark.soak)])
def test_every_block_equals_keras_from_grey_bytes_on(keras_vgg16, keras_params, size):
    """The module and the frozen form, each on its own map of the block before."""
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1)).astype(np.uint8)
    expected = keras_maps(keras_vgg16, keras_input(images, size))
    assert list(expected) == list(BLOCKS)
    x = y = to_vgg_input(jnp.array(images), size=size)
    for depth, block in enumerate(BLOCKS):
        x = vgg_apply(block)(part(keras_params, block), x)
        constant, apply_fn = make_frozen(keras_params, blocks=[block], image_size=size >> depth)
        y = jax.jit(apply_fn)(constant, y)
        for ours in (x, y):
            assert ours.dtype == jnp.float32
            assert error(ours, expected[block]) < 1e-5, block
        assert x.shape[1:] == map_shape((size, size, 3), BLOCKS[: depth + 1])


def test_parameters_are_those_of_the_weights_file():
    module = nnx.eval_shape(lambda: VGG16(blocks=BLOCKS, rngs=nnx.Rngs(0)))
    params = nnx.to_pure_dict(nnx.state(module))
    shapes = {layer: {role: a.shape for role, a in of.items()} for layer, of in params.items()}
    assert tensors(shapes) == tensors(table())
    assert list(params) == list(table())


def test_suffix_after_prefix_is_the_whole(some_params):
    x = images = jax.random.normal(jax.random.key(0), (2, 5, 8, 3))
    for block in BLOCKS[:2]:
        x = vgg_apply(block)(part(some_params, block), x)
    whole = vgg_apply(*BLOCKS[:2])(part(some_params, *BLOCKS[:2]), images)
    assert error(x, whole) < 1e-6


@pytest.mark.cpu
def test_frozen_blocks_of_an_odd_size_equal_the_module(some_params):
    images = jax.random.normal(jax.random.key(0), (2, 25, 25, 3))
    constant, apply_fn = make_frozen(some_params, blocks=BLOCKS[:2], image_size=25)
    # Three channels are not worth it; 25x25 maps take tiles of 5, 12x12 of 6, with more weights 4.
    kernels = [of["kernel"] for of in constant.values()]
    assert kernels[0].shape == (3, 3, 3, 64)
    assert [parts[0].shape[1] - 2 for parts in kernels[1:]] == [5, 6, 4]
    whole = vgg_apply(*BLOCKS[:2])(part(some_params, *BLOCKS[:2]), images)
    assert error(jax.jit(apply_fn)(constant, images), whole) < 1e-5


def test_elsewhere_kernels_stay_and_the_batch_is_whole(some_params):
    constant, apply_fn = make_frozen(some_params, blocks=BLOCKS[:1], image_size=16, platform="gpu")
    jax.tree.map(np.testing.assert_array_equal, constant, part(some_params, *BLOCKS[:1]))
    jaxpr = jax.make_jaxpr(apply_fn)(constant, jnp.zeros((300, 16, 16, 3)))
    assert not [e for e in jaxpr.eqns if e.primitive is lax.scan_p]
    images = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    whole = vgg_apply(*BLOCKS[:1])(constant, images)
    assert error(jax.jit(apply_fn)(constant, images), whole) < 1e-6


@pytest.mark.cpu
@pytest.mark.parametrize("batch", [1, pytest.param(4, marks=pytest.mark.soak), 7])
def test_chunks_change_no_image(some_params, monkeypatch, batch):
    images = jax.random.normal(jax.random.key(batch), (batch, 16, 16, 3))
    constant, apply_fn = make_frozen(some_params, blocks=BLOCKS[:1], image_size=16)
    whole = jax.jit(apply_fn)(constant, images)
    monkeypatch.setattr(frozen, "CHUNK_VALUES", 3 * 16 * 16 * 64)
    constant, apply_fn = make_frozen(some_params, blocks=BLOCKS[:1], image_size=16)
    chunked = jax.make_jaxpr(apply_fn)(constant, images)
    loops = [e for e in chunked.eqns if e.primitive is lax.scan_p]
    count = -(-batch // 3)
    assert [loop.params["length"] for loop in loops] == ([count] if count > 1 else [])
    assert all(loop.invars[-1].aval.shape[1] == -(-batch // count) for loop in loops)
    assert error(jax.jit(apply_fn)(constant, images), whole) < 1e-6


def test_frozen_kernels_are_arguments(some_params):
    """A closed-over constant goes through the compiler."""
    constant, apply_fn = make_frozen(some_params, blocks=BLOCKS[:3], image_size=32)
    jaxpr = jax.make_jaxpr(apply_fn)(constant, jnp.zeros((2, 32, 32, 3)))
    assert sum(np.size(array) for array in jaxpr.consts) == 0


def test_gradient_of_a_block_in_double_precision():
    with jax.enable_x64(True):
        random = np.random.default_rng(0)
        params = {
            layer: {role: jnp.array(random.normal(size=shape)) for role, shape in of.items()}
            for layer, of in convolutions(["block1"])["block1"].items()
        }
        x, g = jnp.array(random.normal(size=(2, 7, 6, 3))), random.normal(size=(2, 3, 3, 64))

        def usual(params, x):
            for layer in ("block1_conv1", "block1_conv2"):
                x = lax.conv_general_dilated(
                    x,
                    params[layer]["kernel"],
                    (1, 1),
                    "SAME",
                    dimension_numbers=("NHWC", "HWIO", "NHWC"),
                )
                x = jax.nn.relu(x + params[layer]["bias"].reshape(1, 1, 1, -1))
            return nnx.max_pool(x, (2, 2), (2, 2))

        def gradients(fn):
            return jax.jit(jax.grad(lambda p, x: jnp.sum(fn(p, x) * g), (0, 1)))(params, x)

        errors = jax.tree.map(error, gradients(vgg_apply("block1")), gradients(usual))
        assert max(jax.tree.leaves(errors)) < 1e-11


@pytest.mark.parametrize("kind", ["flatten", "gap"])
def test_head_is_the_textbook_formula(kind):
    apply_fn, params = functional(
        Head(map_shape=(2, 3, 4), num_classes=5, kind=kind, standardise=True, rngs=nnx.Rngs(0))
    )
    random = np.random.default_rng(0)
    # Of both signs: all positive, the ReLU let nothing through and the test saw the last bias only.
    params = jax.tree.map(lambda p: jnp.asarray(random.normal(size=p.shape), jnp.float32), params)
    x = random.normal(size=(6, 2, 3, 4)).astype(np.float32)
    p = jax.tree.map(np.asarray, params)
    y = x.reshape(6, 24) if kind == "flatten" else x.mean((1, 2))
    np.testing.assert_allclose(as_vector(jnp.array(x), kind), y, rtol=1e-5, atol=1e-6)
    y = (y - p["standardise"]["mean"]) * p["standardise"]["scale"]
    y = np.maximum(y @ p["dense1"]["kernel"] + p["dense1"]["bias"], 0)
    y = y @ p["dense2"]["kernel"] + p["dense2"]["bias"]
    np.testing.assert_allclose(apply_fn(params, jnp.array(x)), y, rtol=1e-4, atol=1e-4)


def test_standardise_is_the_identity_until_filled_in():
    plain, with_statistics = (
        functional(Head(map_shape=(2, 2, 3), standardise=on, rngs=nnx.Rngs(0)))
        for on in (False, True)
    )
    assert set(with_statistics[1]) - set(plain[1]) == {"standardise"}
    x = jax.random.normal(jax.random.key(0), (4, 2, 2, 3))
    np.testing.assert_array_equal(plain[0](plain[1], x), with_statistics[0](with_statistics[1], x))


def test_fine_tuned_has_a_backbone_only_with_blocks(some_params):
    alone = functional(FineTuned(input_shape=(2, 2, 64), rngs=nnx.Rngs(0)))[1]
    apply_fn, both = functional(
        FineTuned(input_shape=(4, 4, 3), blocks=["block1"], rngs=nnx.Rngs(0))
    )
    assert set(alone) == {"head"}
    assert set(both["backbone"]) == {"block1_conv1", "block1_conv2"}
    # One head to start from, whatever is trained with it.
    jax.tree.map(np.testing.assert_array_equal, alone["head"], both["head"])
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 3))
    weights = part(some_params, "block1")
    logits = jax.jit(apply_fn)(both | {"backbone": weights}, x)
    head_apply, _ = functional(Head(map_shape=(2, 2, 64), rngs=nnx.Rngs(9)))
    expected = jax.jit(head_apply)(both["head"], vgg_apply("block1")(weights, x))
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


def test_blocks_and_sizes_that_do_not_fit_are_refused(some_params):
    for blocks in (["block1", "block3"], ["block2", "block1"], ["block6"], ["block1", "block1"]):
        with pytest.raises(ValueError, match="must be consecutive ones of block1, block2"):
            VGG16(blocks=blocks, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="block3 of a 1x1x128 map"):
        make_frozen(some_params, blocks=BLOCKS[:3], image_size=6)
    with pytest.raises(ValueError, match="it takes 128 channels"):
        FineTuned(input_shape=(8, 8, 64), blocks=["block3"], rngs=nnx.Rngs(0))
    with pytest.raises(KeyError, match="block4_conv1"):
        make_frozen(some_params, blocks=BLOCKS[:4], image_size=32)


def test_summary_of_the_backbone_and_of_what_is_trained():
    rows = summarise(VGG16(blocks=BLOCKS[:1], rngs=nnx.Rngs(0)), (32, 32, 3))
    rows += summarise(
        FineTuned(input_shape=(8, 8, 128), blocks=["block3"], standardise=True, rngs=nnx.Rngs(0)),
        (8, 8, 128),
    )
    assert [(row.name, row.kind, row.output) for row in rows] == [
        ("block1_conv1", "Conv", (32, 32, 64)),
        ("block1_conv2", "Conv", (32, 32, 64)),
        ("backbone/block3_conv1", "Conv", (8, 8, 256)),
        ("backbone/block3_conv2", "Conv", (8, 8, 256)),
        ("backbone/block3_conv3", "Conv", (8, 8, 256)),
        ("head/dense1", "Linear", (256,)),
        ("head/dense2", "Linear", (10,)),
        ("head/standardise", "Standardise", (4096,)),
    ]
    assert rows[1].flops == 32 * 32 * 64 * (2 * 9 * 64 + 1)
    assert rows[2].flops == 8 * 8 * 256 * (2 * 9 * 128 + 1)
    assert rows[-1].flops == rows[-1].parameters == 2 * 4096
    (alone,) = summarise(FineTuned(input_shape=(4, 4, 8), rngs=nnx.Rngs(0)), (4, 4, 8))[:1]
    assert alone.parameters == 128 * 256 + 256
