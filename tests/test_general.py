"""`conv_general_dilated` and `speed_up`: JAX's own to rounding, whatever is asked of it."""

from functools import partial
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from numpy.testing import assert_allclose, assert_array_equal

import mnistjax as mj
from mnistjax.errors import UsageError
from mnistjax.models.functional import functional_with_state
from mnistjax.models.mobilenet import InvertedBlock
from mnistjax.models.resnet import ResNet
from mnistjax.ops.general import conv_general_dilated
from mnistjax.ops.speed_up import speed_up
from mnistjax.ops.transposed import conv_transpose

DIMENSIONS = "NHWC", "HWIO", "NHWC"


def arrays(x_shape, kernel_shape, dtype="float32"):
    random = np.random.default_rng(0)
    return [jnp.asarray(random.standard_normal(shape), dtype) for shape in (x_shape, kernel_shape)]


def value_and_gradients(conv, x, kernel):
    """As one program: of each operation by itself XLA makes dozens."""

    @jax.jit
    def both(x, kernel):
        y, back = jax.vjp(conv, x, kernel)
        towards = np.random.default_rng(1).standard_normal(y.shape)
        return y, *back(jnp.asarray(towards, y.dtype))

    return both(x, kernel)


def in_float64(x, kernel, **static):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        wide = [jnp.asarray(np.asarray(a, np.float64)) for a in (x, kernel)]
        conv = partial(lax.conv_general_dilated, dimension_numbers=DIMENSIONS, **static)
        return [np.asarray(a) for a in value_and_gradients(conv, *wide)]


def agrees_with_float64(size, image, channels, **static):
    inputs, outputs = channels
    groups = 1
    if inputs == "depthwise":
        inputs = groups = outputs
    elif inputs == "two a channel":
        inputs = groups = outputs // 2
    elif inputs == "groups":
        inputs, groups = 2 * outputs, 2
    x, kernel = arrays((2, *image, inputs), (*size, inputs // groups, outputs))
    static |= {"feature_group_count": groups}
    want = in_float64(x, kernel, **static)
    if 0 in want[0].shape:
        return
    ours = partial(conv_general_dilated, dimension_numbers=DIMENSIONS, **static)
    for got, exact in zip(value_and_gradients(ours, x, kernel), want, strict=True):
        assert got.shape == exact.shape
        assert_allclose(got, exact, atol=1e-5 * max(1, np.abs(exact).max()))


pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
pads = st.sampled_from(["SAME", "VALID", [(0, 1), (2, 0)], [(-1, 0), (1, 1)]])


@settings(max_examples=20)  # each compiles anew
@given(
    size=st.tuples(st.sampled_from([1, 2, 3, 5]), st.sampled_from([1, 3, 4])),
    image=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    strides=pair,
    dilation=pair,
    padding=pads,
    channels=st.sampled_from(
        [(1, 1), (3, 2), (8, 4), ("depthwise", 4), ("two a channel", 4), ("groups", 4)]
    ),
)
def test_values_and_both_gradients_are_those_of_lax_in_float64(
    size, image, strides, dilation, padding, channels
):
    static = {"window_strides": strides, "padding": padding, "rhs_dilation": dilation}
    agrees_with_float64(size, image, channels, **static)


@pytest.mark.parametrize("size", [6, 9])
@pytest.mark.parametrize("padding", [((1, 1), (1, 1)), ((0, 1), (2, 0)), ((1, 1), (0, 0))])
def test_winograd_takes_any_zeros_around(padding, size):
    x, kernel = arrays((2, size, size, 8), (3, 3, 8, 4))
    static = {"window_strides": (1, 1), "padding": padding}
    ours = partial(conv_general_dilated, dimension_numbers=DIMENSIONS, **static)
    exact = in_float64(x, kernel, **static)
    for got, want in zip(value_and_gradients(ours, x, kernel), exact, strict=True):
        assert_allclose(got, want, atol=1e-5 * np.abs(want).max())


@settings(max_examples=12)
@given(
    size=st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from([2, 4])),
    image=st.tuples(st.integers(2, 5), st.integers(2, 5)),
    strides=st.sampled_from([(2, 2), (1, 3), (4, 2)]),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.sampled_from([[(0, 0), (0, 0)], [(0, 1), (2, 0)], [(3, 2), (-1, 4)]]),
    channels=st.sampled_from([(3, 2), ("depthwise", 4), ("groups", 4)]),
)
def test_transposed_ones_are_those_of_lax_in_float64(
    size, image, strides, dilation, padding, channels
):
    static = {"window_strides": (1, 1), "padding": padding, "lhs_dilation": strides}
    agrees_with_float64(size, image, channels, rhs_dilation=dilation, **static)


FAST = {
    "3x3": ((3, 3, 8, 8), {"window_strides": (1, 1)}),
    "3x3 stride 2": ((3, 3, 8, 8), {"window_strides": (2, 2)}),
    "1x1": ((1, 1, 8, 8), {"window_strides": (1, 1)}),
    "1x1 stride 2": ((1, 1, 8, 8), {"window_strides": (2, 2)}),
    "transposed": (
        (2, 2, 8, 8),
        {"window_strides": (1, 1), "lhs_dilation": (2, 2), "padding": ((1, 1), (1, 1))},
    ),
    "patchify": ((4, 4, 8, 8), {"window_strides": (4, 4)}),
    "depthwise": ((3, 3, 1, 8), {"window_strides": (1, 1), "feature_group_count": 8}),
    "depthwise stride 2": ((3, 3, 1, 8), {"window_strides": (2, 2), "feature_group_count": 8}),
    "two a channel": ((3, 3, 1, 16), {"window_strides": (1, 1), "feature_group_count": 8}),
    "groups": ((3, 3, 4, 8), {"window_strides": (1, 1), "feature_group_count": 2}),
    "groups, stride 2": ((3, 3, 4, 8), {"window_strides": (2, 2), "feature_group_count": 2}),
}


@pytest.mark.cpu
@pytest.mark.parametrize("kind", FAST)
def test_on_a_cpu_no_convolution_is_left_neither_forward_nor_back(kind):
    shape, static = FAST[kind]
    static = {"padding": "SAME", "dimension_numbers": DIMENSIONS} | static
    ours = partial(conv_general_dilated, **static)
    both = jax.jit(partial(value_and_gradients, ours))
    x, kernel = arrays((2, 8, 8, 8), shape)
    assert "stablehlo.convolution" not in both.trace(x, kernel).lower().as_text()
    elsewhere = both.trace(x, kernel).lower(lowering_platforms=("cuda",)).as_text()
    assert elsewhere.count("stablehlo.convolution") == 3


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 2), (0, 1))])
@pytest.mark.parametrize(("size", "stride"), [(2, 2), (4, 2), (3, 2), (2, 3)])
def test_conv_transpose_is_that_of_lax(size, stride, padding):
    x, kernel = arrays((2, 4, 5, 3), (size, size, 3, 2))
    of = (x, kernel, (stride, stride), padding)
    assert_allclose(conv_transpose(*of), lax.conv_transpose(*of), atol=1e-5)
    wider = (*of, (2, 1))
    assert_allclose(conv_transpose(*wider), lax.conv_transpose(*wider), atol=1e-5)


@pytest.mark.parametrize(
    "static",
    [
        {"transpose_kernel": True},
        {"use_consistent_padding": True, "padding": ((1, 1), (1, 1))},
        {"dimension_numbers": ("NCHW", "OIHW", "NCHW")},
        {"strides": (1, 1)},
        {"padding": "same"},
    ],
)
def test_other_transposed_ones_are_lax(static: dict[str, Any]):
    shapes = ((2, 4, 4, 3), (2, 2, 3, 3))
    if "dimension_numbers" in static:
        shapes = ((2, 3, 4, 4), (3, 3, 2, 2))
    x, kernel = arrays(*shapes)
    static = {"strides": (2, 2), "padding": "SAME", **static}
    if static["padding"] == "same":
        with pytest.raises(ValueError, match="padding"):
            conv_transpose(x, kernel, **static)
        return
    assert_allclose(
        conv_transpose(x, kernel, **static), lax.conv_transpose(x, kernel, **static), atol=1e-5
    )


OTHERS = {
    "dilated image and strides": (
        (2, 8, 8, 8),
        (3, 3, 8, 8),
        {"lhs_dilation": (2, 2), "window_strides": (2, 1), "padding": ((1, 1), (1, 1))},
    ),
    "batch groups": ((2, 8, 8, 8), (3, 3, 8, 8), {"batch_group_count": 2}),
    "the batch last": (
        (8, 8, 8, 2),
        (8, 3, 3, 8),
        {"dimension_numbers": ("CHWN", "IHWO", "HWCN")},
    ),
    "exact": ((2, 8, 8, 8), (3, 3, 8, 8), {"precision": lax.Precision.HIGHEST}),
    "wider": ((2, 8, 8, 8), (3, 3, 8, 8), {"preferred_element_type": jnp.float64}),
    "nothing fits": ((2, 2, 2, 8), (3, 3, 8, 8), {"padding": "VALID"}),
    "no image": ((0, 8, 8, 8), (3, 3, 8, 8), {}),
    "no channel": ((2, 8, 8, 0), (3, 3, 0, 8), {}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_all_else_is_lax_to_the_bit(name):
    x_shape, kernel_shape, static = OTHERS[name]
    x, kernel = arrays(x_shape, kernel_shape)
    static = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": DIMENSIONS} | static
    with jax.enable_x64(name == "wider"):
        want = lax.conv_general_dilated(x, kernel, **static)
        got = conv_general_dilated(x, kernel, **static)
    assert got.dtype == want.dtype
    if name == "no image":
        assert got.shape == want.shape
    else:
        assert_array_equal(got, want)


@pytest.mark.parametrize("axes", [1, 3])
def test_other_numbers_of_axes_are_lax(axes):
    def make(**more):
        return nnx.Conv(2, 3, (3,) * axes, rngs=nnx.Rngs(0), **more)

    x = jnp.asarray(np.random.default_rng(0).random((2, *[5] * axes, 2)), jnp.float32)
    assert_array_equal(make(conv_general_dilated=conv_general_dilated)(x), make()(x))


@pytest.mark.cpu
@pytest.mark.parametrize(
    ("numbers", "kernel_shape"),
    [
        (None, (4, 8, 3, 3)),
        (("NCHW", "HWIO", "NHWC"), (3, 3, 8, 4)),
        (("NWCH", "IHWO", "NCWH"), (8, 3, 3, 4)),
    ],
)
def test_axes_may_come_in_any_order(numbers, kernel_shape):
    shape = (2, 7, 8, 6) if numbers and numbers[0] == "NWCH" else (2, 8, 7, 6)
    x, kernel = arrays(shape, kernel_shape)
    static = {"window_strides": (2, 1), "padding": "SAME", "dimension_numbers": numbers}
    ours, usual = (
        partial(conv, **static) for conv in (conv_general_dilated, lax.conv_general_dilated)
    )
    of = x, kernel
    for got, want in zip(
        value_and_gradients(ours, *of), value_and_gradients(usual, *of), strict=True
    ):
        assert_allclose(got, want, atol=2e-5)
    assert "stablehlo.convolution" not in jax.jit(ours).trace(*of).lower().as_text()


def test_each_group_may_be_a_winograd_of_its_own():
    agrees_with_float64((3, 3), (6, 7), ("groups", 8), window_strides=(1, 1), padding="SAME")


def test_wrong_use_has_the_words_of_jax():
    x, kernel = arrays((2, 8, 8, 8), (3, 3, 4, 8))
    with pytest.raises((TypeError, ValueError), match="feature"):
        conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=DIMENSIONS)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", FAST)
def test_of_16_bits_only_the_result_is_rounded(kind, dtype):
    shape, static = FAST[kind]
    x, kernel = arrays((2, 8, 8, 8), shape, dtype)
    static = {"padding": "SAME"} | static
    exact = in_float64(x, kernel, **static)[0]
    got = conv_general_dilated(x, kernel, dimension_numbers=DIMENSIONS, **static)
    assert got.dtype == dtype
    bound = 1e-2 * np.abs(exact).max()
    assert np.abs(np.asarray(got, np.float64) - exact).max() < bound


@pytest.mark.cpu
@pytest.mark.parametrize("kind", ["3x3 stride 2", "depthwise"])
def test_vmap_second_derivatives_and_open_batches(kind):
    shape, static = FAST[kind]
    ours, usual = (
        partial(conv, padding="SAME", dimension_numbers=DIMENSIONS, **static)
        for conv in (conv_general_dilated, lax.conv_general_dilated)
    )
    x, kernel = arrays((2, 8, 8, 8), shape)

    def twice(conv):
        def slope(kernel):
            return (jax.grad(lambda x: (conv(x, kernel) ** 3).sum())(x) ** 2).sum()

        def steepness(x):
            return (jax.grad(lambda kernel: (conv(x, kernel) ** 2).sum())(kernel) ** 2).sum()

        return jax.grad(slope)(kernel), jax.grad(steepness)(x)

    for mine, its in zip(twice(ours), twice(usual), strict=True):
        assert_allclose(mine, its, rtol=1e-3, atol=1e-2)
    stacked = jnp.stack([x, 2 * x])
    assert_allclose(jax.vmap(ours, (0, None))(stacked, kernel)[1], 2 * ours(x, kernel), rtol=1e-5)
    with pytest.raises(UsageError, match="as_lax"):
        jax.jvp(ours, (x, kernel), (x, kernel))
    with mj.as_lax():
        assert_array_equal(
            jax.jvp(ours, (x, kernel), (x, kernel))[1], jax.jvp(usual, (x, kernel), (x, kernel))[1]
        )
    (batch,) = jax.export.symbolic_shape("b")
    open_batch = jax.ShapeDtypeStruct((batch, 8, 8, 8), jnp.float32)
    exported = jax.export.export(jax.jit(ours))(open_batch, kernel)
    assert_allclose(exported.call(x, kernel), ours(x, kernel), rtol=1e-5, atol=1e-5)


def test_linen_takes_it():
    x = arrays((2, 8, 8, 8), (1,))[0]
    usual = flax.linen.Conv(4, (3, 3), strides=2)
    params = usual.init(jax.random.key(0), x)
    ours = flax.linen.Conv(4, (3, 3), strides=2, conv_general_dilated=conv_general_dilated)
    got, want = (np.asarray(layer.apply(params, x)) for layer in (ours, usual))
    assert_allclose(got, want, atol=1e-5)


class Mobile(nnx.Module):
    """A stem and two inverted blocks: MobileNetV2's kinds of layers."""

    def __init__(self, rngs):
        more = {"dtype": "float32", "rngs": rngs}
        self.first = InvertedBlock(3, 8, widening=1, strides=1, **more)
        self.second = InvertedBlock(8, 8, widening=6, strides=2, **more)
        self.dense = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, x):
        return self.dense(self.second(self.first(x)).mean((1, 2)))


NETWORKS = {
    "ResNet": lambda: ResNet(blocks=(1, 1), width=8, rngs=nnx.Rngs(0)),
    "MobileNet": lambda: Mobile(nnx.Rngs(0)),
}


@pytest.mark.parametrize("name", [pytest.param("ResNet", marks=pytest.mark.soak), "MobileNet"])
def test_a_network_that_was_sped_up_trains_as_before(name):
    random = np.random.default_rng(0)
    images = jnp.asarray(random.random((16, 12, 12, 3), np.float32))
    labels = jnp.asarray(random.integers(0, 10, 16), jnp.int32)
    tx = optax.sgd(0.02, momentum=0.9)

    def losses(model):
        apply_fn, params, model_state = functional_with_state(model)

        def loss_of(params, model_state):
            logits, model_state = apply_fn(params, model_state, images, jax.random.key(0))
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), model_state

        @jax.jit
        def step(carry, _):
            params, model_state, opt_state = carry
            found, grads = jax.value_and_grad(loss_of, has_aux=True)(params, model_state)
            updates, opt_state = tx.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), found[1], opt_state), found[0]

        carry = params, model_state, tx.init(params)
        return np.asarray(lax.scan(step, carry, None, length=20)[1])

    with jax.numpy_rank_promotion("allow"):  # BatchNorm's
        _trains_as_before(NETWORKS[name], losses)


def _trains_as_before(make, losses):
    fast = make()
    layers = [m for _, m in nnx.iter_modules(fast) if isinstance(m, nnx.Conv | nnx.BatchNorm)]
    assert len(speed_up(fast)) == len(layers) and speed_up(fast) == []
    before, after = losses(make()), losses(fast)
    assert before[-1] < 0.9 * before[0]
    assert_allclose(after, before, rtol=2e-3)


@pytest.mark.parametrize(
    "how",
    [
        {"padding": "SAME"},
        {"padding": "VALID", "use_bias": False},
        {"padding": ((1, 0), (2, 1)), "kernel_dilation": 2},
        {"padding": "SAME", "transpose_kernel": True},
        {"padding": "CIRCULAR"},
        {"padding": 1},
        {"padding": "SAME", "mask": np.tri(3)[:, :, None, None] * np.ones((8, 4))},
    ],
    ids=str,
)
def test_a_transposed_layer_gives_what_it_gave(how):
    def layer():
        return nnx.ConvTranspose(8, 4, (3, 3), 2, rngs=nnx.Rngs(0), **how)

    def value_and_gradient(layer, x):
        graphdef, params = nnx.split(layer)
        return jax.value_and_grad(lambda p: (nnx.merge(graphdef, p)(x) ** 2).sum())(params)

    usual, ours = layer(), nnx.Sequential(layer())
    assert speed_up(ours) == ["layers/0"] and speed_up(ours) == []
    for shape in ((2, 6, 5, 8), (6, 5, 8)):
        x = arrays(shape, (1,))[0]
        for got, want in zip(
            jax.tree.leaves(value_and_gradient(ours.layers[0], x)),
            jax.tree.leaves(value_and_gradient(usual, x)),
            strict=True,
        ):
            assert_allclose(got, want, rtol=1e-4, atol=1e-3)


@pytest.mark.cpu
def test_nothing_of_a_transposed_layer_is_left_to_xla():
    layer = nnx.ConvTranspose(8, 4, (2, 2), 2, rngs=nnx.Rngs(0))
    counts = []
    for changes in (lambda layer: None, speed_up):
        changes(layer)
        program = nnx.jit(lambda layer, x: layer(x)).lower(layer, jnp.ones((2, 6, 5, 8)))
        counts.append((program.compile().as_text() or "").count("convolution("))
    assert counts[0] > 0 == counts[1]


def test_a_layer_with_an_operation_of_its_own_keeps_it():
    def own(*args, **kwargs):
        return lax.conv_general_dilated(*args, **kwargs)

    model = nnx.Sequential(nnx.Conv(1, 2, (3, 3), conv_general_dilated=own, rngs=nnx.Rngs(0)))
    assert speed_up(model) == []
