"""Every optimiser of optax trains, whatever it keeps in its state and asks for."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mnistjax as mj
from mnistjax.errors import UsageError
from mnistjax.training.step import make_step

contrib: Any = optax.contrib
random = np.random.default_rng(0)
IMAGES = jnp.asarray(random.integers(0, 256, (24, 3, 3, 1), dtype=np.uint8))
BATCH = mj.Batch(IMAGES, jnp.asarray(np.arange(24) % 4, jnp.int32), jnp.ones(24, bool))
PARAMS = {"w": jnp.zeros((9, 4)), "b": jnp.zeros((1, 4))}

# Parameters in their own state (donated twice), or wanting the loss, the gradient, the objective.
TXS: dict[str, Any] = {
    "prodigy": contrib.prodigy(),
    "dog": contrib.dog(1.0),
    "cocob": contrib.cocob(),
    "mechanize": contrib.mechanize(optax.adam(1e-2)),
    "sam": contrib.sam(
        optax.sgd(0.1), optax.chain(contrib.normalize(), optax.sgd(0.05)), sync_period=2
    ),
    "polyak": optax.polyak_sgd(1.0),
    "momo": contrib.momo(0.1),
    "plateau": optax.chain(optax.adam(1e-2), contrib.reduce_on_plateau(patience=2)),
    "lbfgs": optax.lbfgs(),
    "sophia": contrib.sophia(1e-2),
    "apply_if_finite": optax.apply_if_finite(optax.adam(1e-2), 3),
    "schedule free": contrib.schedule_free_adamw(0.1),
}


def linear(params, images):
    return images.reshape(len(images), -1) @ params["w"] + params["b"]


def trained(tx, steps=6, **more) -> Any:
    step = mj.make_train_step(apply_fn=linear, tx=tx, **more)
    state, losses = mj.init_state(PARAMS, tx), []
    for _ in range(steps):
        state, metrics = step(state, BATCH)
        losses.append(metrics.loss)
    return state, losses


@pytest.mark.parametrize("tx", TXS.values(), ids=TXS)
@pytest.mark.filterwarnings("ignore:Specifying a key")
def test_it_trains(tx):
    with jax.numpy_dtype_promotion("standard"):
        _, losses = trained(tx)
    assert np.isfinite(losses).all() and min(losses[1:]) < losses[0] + 1e-6


@pytest.mark.parametrize("name", ["lbfgs", "polyak", "plateau"])
def test_what_it_asks_for_is_of_the_whole_batch(name):
    """However the batch is cut, the loss and the objective are the same; so is the search."""
    with jax.numpy_dtype_promotion("standard"):
        whole, losses = trained(TXS[name], steps=4)
        cut, same = trained(TXS[name], steps=4, micro_batch=7)
    np.testing.assert_allclose(losses, same, rtol=1e-5)
    np.testing.assert_allclose(whole.params["w"], cut.params["w"], rtol=1e-3, atol=1e-5)


def test_lbfgs_is_that_of_optax():
    def loss(params):
        images = BATCH.images.astype(jnp.float32) / 255
        losses = optax.softmax_cross_entropy_with_integer_labels(
            linear(params, images), BATCH.labels
        )
        return losses.mean()

    tx: Any = optax.lbfgs()

    @jax.jit
    def update(params, state):
        value, grad = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=loss)
        return optax.apply_updates(params, updates), state

    params: Any = PARAMS
    state = tx.init(params)
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(4):
            params, state = update(params, state)
        ours, _ = trained(tx, steps=4)
    for name, leaf in ours.params.items():
        np.testing.assert_allclose(leaf, params[name], rtol=1e-3, atol=1e-5)


def test_what_cannot_be_had_is_refused_with_its_reason():
    def update(updates, state, params=None, *, curvature, **_):
        return updates, state

    kind: Any = optax.GradientTransformationExtraArgs
    tx = kind(lambda params: (), update)
    with pytest.raises(UsageError, match=r"`tx`: its update failed.*'curvature'"):
        make_step(apply_fn=linear, tx=tx)(mj.init_state(PARAMS, tx), BATCH)
