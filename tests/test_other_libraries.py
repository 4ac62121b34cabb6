"""Networks of Equinox and Haiku, which have no place for another operation: docs/any-network.md."""

from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import mnistjax as mj

OURS = {
    "conv_general_dilated": mj.ops.conv_general_dilated,
    "conv_transpose": mj.ops.conv_transpose,
}
IMAGES = jnp.asarray(np.random.default_rng(0).random((4, 9, 9, 3)), jnp.float32)


def of_equinox():
    eqx = pytest.importorskip("equinox", reason="equinox is not installed")
    keys = jax.random.split(jax.random.key(0), 3)
    net = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(3, 8, 3, padding=1, key=keys[0]),
            eqx.nn.Conv2d(8, 16, 3, stride=2, groups=8, key=keys[1]),
            eqx.nn.ConvTranspose2d(16, 2, 2, stride=2, key=keys[2]),
        ]
    )
    params, static = eqx.partition(net, eqx.is_array)

    def apply_fn(params, images):
        return jax.vmap(eqx.combine(params, static))(images.transpose(0, 3, 1, 2))

    return apply_fn, params


def of_haiku():
    hk = pytest.importorskip("haiku", reason="dm-haiku is not installed")

    def net(images):
        x = hk.Conv2D(8, 3)(images)
        x = hk.DepthwiseConv2D(2, 3, stride=2)(x)
        return hk.Conv2DTranspose(2, 2, stride=2)(x)

    made = hk.without_apply_rng(hk.transform(net))
    return made.apply, made.init(jax.random.key(0), IMAGES)


@pytest.mark.parametrize("make", [of_equinox, of_haiku])
def test_they_are_traced_with_ours_in_place_of_jaxs(make):
    with jax.numpy_rank_promotion("allow"):
        apply_fn, params = make()

        def loss(params):
            return (apply_fn(params, IMAGES) ** 2).mean()

        def both():  # a function of its own: JAX keeps what it has traced
            return jax.jit(jax.value_and_grad(lambda params: loss(params)))

        usual = both()(params)
        with patch.multiple("jax.lax", **OURS):
            step = both().trace(params).lower()
        ours = step.compile()(params)
    assert "stablehlo.convolution" not in step.as_text()
    for got, want in zip(jax.tree.leaves(ours), jax.tree.leaves(usual), strict=True):
        assert_allclose(got, want, rtol=1e-4, atol=1e-5)
