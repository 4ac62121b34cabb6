"""On arrays whose types say how they lie: run by test_parallel.py where there are eight devices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import mnistjax as mj
from mnistjax.errors import UsageError
from mnistjax.ops.conv_pool import conv_pool
from mnistjax.ops.convolution import conv2d
from mnistjax.ops.pooling import max_pool
from mnistjax.training.step import make_step

ROWS, SAME = PartitionSpec("data"), PartitionSpec()
X = jax.random.normal(jax.random.key(0), (8, 6, 6, 8))
KERNEL = jax.random.normal(jax.random.key(1), (3, 3, 8, 8))
OPS: dict[str, Any] = {
    "Winograd": lambda x, k: conv2d(x, k),
    "fused patches": lambda x, k: conv_pool(x[..., :1], k[:, :, :1], jnp.ones(8), pool="avg"),
    "max": lambda x, k: max_pool(x) * k[0, 0, :1],
}


@pytest.fixture(scope="module")
def mesh():
    assert jax.local_device_count() == 8
    return jax.make_mesh((8,), ("data",))  # explicit by default


def on(mesh, spec, tree):
    return jax.device_put(tree, NamedSharding(mesh, spec))


def gradients(op):
    def loss(x, kernel):
        with jax.numpy_rank_promotion("allow"):
            return (op(x, kernel) ** 2).sum()

    return jax.grad(loss, (0, 1))


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
def test_operations_and_their_gradients(mesh, op):
    wanted = gradients(op)(X, KERNEL)
    rows, same = on(mesh, ROWS, X), on(mesh, SAME, KERNEL)
    explicit = jax.jit(gradients(op))(rows, same)
    assert jax.typeof(explicit[0]).sharding.spec[0] == "data"
    checked = jax.shard_map(gradients(op), mesh=mesh, in_specs=(ROWS, SAME), out_specs=(ROWS, SAME))
    for got in (explicit, jax.jit(checked)(rows, same)):
        for ours, theirs in zip(got, wanted, strict=True):
            scale = 1 + float(jnp.abs(theirs).max())
            np.testing.assert_allclose(
                np.asarray(ours) / scale, np.asarray(theirs) / scale, atol=1e-5
            )


PARAMS = {"conv": 0.1 * KERNEL, "dense": 0.1 * KERNEL[0, 0, :, :3]}
TX = optax.sgd(0.1)
BATCH = mj.Batch(
    jnp.arange(8 * 288, dtype=jnp.uint8).reshape(8, 6, 6, 8), jnp.arange(8) % 3, jnp.ones(8, bool)
)


def apply_fn(params, images):
    return max_pool(conv2d(images, params["conv"])).mean((1, 2)) @ params["dense"]


@pytest.fixture(scope="module")
def alone():
    return mj.make_train_step(apply_fn=apply_fn, tx=TX)(mj.init_state(PARAMS, TX), BATCH)[0]


def steps(mesh) -> dict[str, Any]:
    made: dict[str, Any] = {"apply_fn": apply_fn, "tx": TX}
    inside = make_step(**made, axis="data", micro_batch=1)
    checked = jax.shard_map(inside, mesh=mesh, in_specs=(SAME, ROWS), out_specs=SAME)
    return {
        "make_mesh": mj.make_train_step(**made, mesh=mesh),
        "another name": mj.make_train_step(**made, mesh=jax.make_mesh((8,), ("batch",))),
        "by types alone": mj.make_train_step(**made),
        "in a shard_map that checks": jax.jit(checked),
    }


@pytest.mark.parametrize(
    "kind", ["make_mesh", "another name", "by types alone", "in a shard_map that checks"]
)
def test_a_step_is_that_of_one_device(mesh, alone, kind):
    state, batch = mj.init_state(PARAMS, TX), BATCH
    if kind in ("by types alone", "in a shard_map that checks"):
        state, batch = on(mesh, SAME, state), on(mesh, ROWS, batch)
    state, _ = steps(mesh)[kind](state, batch)
    for ours, theirs in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(alone.params), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_mesh_that_divides_a_model_is_refused():
    with pytest.raises(UsageError, match="has more than one axis"):
        mesh = jax.make_mesh((4, 2), ("data", "model"))
        mj.make_eval_step(apply_fn=apply_fn, mesh=mesh)
