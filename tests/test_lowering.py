"""The operations under JAX's own transformations: forward mode within `as_lax`, export."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export, lax

import mnistjax as mj
from mnistjax.errors import UsageError
from mnistjax.ops.conv_pool import conv_pool
from mnistjax.ops.convolution import conv2d
from mnistjax.ops.normalization import local_response_norm
from mnistjax.ops.pooling import avg_pool, max_pool

random = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(random.standard_normal(shape), jnp.float32)


X, FEW, KERNEL, SMALL = (
    normal(2, 6, 6, 8),
    normal(2, 6, 6, 1),
    normal(3, 3, 8, 4),
    normal(3, 3, 1, 4),
)
BIAS = normal(4)


def lax_conv(x, kernel):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def lax_max_pool(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def lax_norm(x):
    padded = jnp.pad(x * x, [(0, 0)] * 3 + [(2, 2)])
    total = sum(padded[..., i : i + x.shape[-1]] for i in range(5))
    return x / (2.0 + 1e-4 * total) ** 0.75


# Each with what JAX's own operations make of it, and where it is derived.
OPS: dict[str, Any] = {
    "conv2d": (lambda x: conv2d(x, KERNEL), lambda x: lax_conv(x, KERNEL), X),
    "its kernel": (lambda k: conv2d(X, k), lambda k: lax_conv(X, k), KERNEL),
    "conv_pool": (
        lambda x: conv_pool(x, KERNEL, BIAS),
        lambda x: lax_max_pool(jax.nn.relu(lax_conv(x, KERNEL) + BIAS.reshape(1, 1, 1, -1))),
        X,
    ),
    "conv_pool of few channels": (
        lambda x: conv_pool(x, SMALL, BIAS),
        lambda x: lax_max_pool(jax.nn.relu(lax_conv(x, SMALL) + BIAS.reshape(1, 1, 1, -1))),
        FEW,
    ),
    "max_pool": (max_pool, lax_max_pool, X),
    "local_response_norm": (local_response_norm, lax_norm, X),
}


@pytest.mark.cpu
@pytest.mark.parametrize(("ours", "theirs", "x"), OPS.values(), ids=OPS)
def test_forward_mode_is_that_of_lax_within_as_lax_and_told_without(ours, theirs, x):
    along = normal(*x.shape)
    with pytest.raises(UsageError, match=r"forward-mode .* reverse-mode .*mj\.as_lax\(\)"):
        jax.jvp(ours, (x,), (along,))
    with mj.as_lax():
        got = jax.jvp(ours, (x,), (along,))
        by_rows = (
            jax.vmap(partial(jax.jvp, lambda x: ours(x[None])[0]))((x,), (along,))
            if (x.ndim == 4 and x.shape[0] == 2)
            else got
        )
    want = jax.jvp(theirs, (x,), (along,))
    for mine in (got, by_rows):
        for a, b in zip(mine, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def loss_of(op, x):
    return (op(x) ** 2).sum()


def test_what_was_compiled_before_is_compiled_anew():
    """Also within functions that the caller has jitted."""
    jitted = jax.jit(lambda x: conv2d(x, KERNEL))
    outer = jax.jit(lambda x: jitted(x) * 2)
    outer(X)
    with mj.as_lax():
        got = jax.jvp(outer, (X,), (X,))[1]
        hessian = jax.jvp(jax.grad(partial(loss_of, outer)), (X,), (X,))[1]
        text = outer.lower(X).as_text()
    np.testing.assert_allclose(got, 2 * lax_conv(X, KERNEL), rtol=1e-4, atol=1e-4)
    want = jax.grad(partial(loss_of, lambda x: 2 * lax_conv(x, KERNEL)))(X)
    np.testing.assert_allclose(hessian, want, rtol=1e-4, atol=1e-3)
    assert "convolution" in text
    assert len(outer.lower(X).as_text()) > len(text)


def test_it_is_one_and_the_same_transposed_and_twice_in_reverse():
    """What works without the switch: `vjp` of any order, `vmap`, and transposes by `vjp`."""
    g = normal(2, 6, 6, 4)
    _, pull = jax.vjp(lambda x: conv2d(x, KERNEL), X)
    (want,) = jax.linear_transpose(lambda x: lax_conv(x, KERNEL), X)(g)
    np.testing.assert_allclose(pull(g)[0], want, rtol=1e-4, atol=1e-4)
    with mj.as_lax():
        (got,) = jax.linear_transpose(lambda x: conv2d(x, KERNEL), X)(g)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    again = jax.grad(lambda x: jax.grad(partial(loss_of, lambda x: conv2d(x, KERNEL)))(x).sum())(X)
    lax_again = jax.grad(
        lambda x: jax.grad(partial(loss_of, lambda x: lax_conv(x, KERNEL)))(x).sum()
    )(X)
    np.testing.assert_allclose(again, lax_again, rtol=1e-4, atol=1e-3)


EXPORTED: dict[str, Any] = {
    "conv2d by Winograd": (lambda x: conv2d(x, KERNEL), (6, 6, 8)),
    "conv2d by patches": (lambda x: conv2d(x, SMALL), (6, 6, 1)),
    "conv_pool by Winograd": (lambda x: conv_pool(x, KERNEL, BIAS), (6, 6, 8)),
    "conv_pool by patches": (lambda x: conv_pool(x, SMALL, BIAS), (6, 6, 1)),
    "max_pool": (max_pool, (6, 6, 2)),
    "avg_pool": (avg_pool, (6, 6, 2)),
    "avg_pool of another window": (lambda x: avg_pool(x, (3, 3)), (6, 6, 2)),
    "local_response_norm": (local_response_norm, (2, 2, 8)),
}


def exported(fn, shape):
    batch = jax.ShapeDtypeStruct((*export.symbolic_shape("batch"), *shape), jnp.float32)
    return export.export(jax.jit(fn), platforms=["cpu", "cuda", "tpu"])(batch)


@pytest.mark.parametrize(("fn", "shape"), EXPORTED.values(), ids=EXPORTED)
def test_operations_are_exported_with_an_open_batch(fn, shape):
    call = exported(fn, shape).call
    for count in (1, 7):
        x = normal(count, *shape)
        np.testing.assert_allclose(call(x), fn(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("pool", "lrn"), [("max", True), ("avg", False)])
def test_the_cnn_is_exported_with_an_open_batch(pool, lrn):
    model = mj.CNN(image_shape=(12, 12, 1), num_classes=10, pool=pool, lrn=lrn, rngs=nnx.Rngs(0))
    apply_fn, params = mj.functional(model)
    call = exported(partial(apply_fn, params), (12, 12, 1)).call
    for count in (1, 5):
        x = normal(count, 12, 12, 1)
        np.testing.assert_allclose(call(x), apply_fn(params, x), rtol=1e-4, atol=1e-5)


def test_vgg16_is_exported_with_an_open_batch():
    model = mj.VGG16(blocks=("block1", "block2"), rngs=nnx.Rngs(0))
    apply_fn, params = mj.functional(model)
    call = exported(partial(apply_fn, params), (12, 12, 3)).call
    x = normal(2, 12, 12, 3)
    np.testing.assert_allclose(call(x), apply_fn(params, x), rtol=1e-3, atol=1e-4)
