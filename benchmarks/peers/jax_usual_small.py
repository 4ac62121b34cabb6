"""The small CNN and its step in JAX as tutorials write them: nnx.Conv, ReLU, nnx.max_pool."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx


class CNN(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 32, (3, 3), padding="VALID", rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, (3, 3), padding="VALID", rngs=rngs)
        self.dense1 = nnx.Linear(1600, 128, rngs=rngs)
        self.dense2 = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.conv1(x)), (2, 2), (2, 2))
        x = nnx.max_pool(nnx.relu(self.conv2(x)), (2, 2), (2, 2))
        x = nnx.relu(self.dense1(x.reshape(len(x), -1)))
        return self.dense2(x)


def make_train_step(graphdef: Any, tx: optax.GradientTransformation) -> Callable[..., Any]:
    """`train_step(state, images, labels) -> (state, loss)`, a state being (params, opt_state)."""

    # A plain jit over a dict is faster than nnx.jit: the peer gets the faster one.
    @partial(jax.jit, donate_argnums=0)
    def train_step(state, images, labels):
        params, opt_state = state

        def loss_fn(params):
            logits = nnx.merge(graphdef, params)(images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = tx.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), loss

    return train_step


def start(problem: Mapping[str, np.ndarray]) -> tuple[Callable[..., Any], Any]:
    """The step and the first state, of the problem's parameters."""
    graphdef, _ = nnx.split(CNN(nnx.Rngs(0)))
    names = ("conv1", "conv2", "dense1", "dense2")
    params = {n: {k: jnp.array(problem[f"{n}/{k}"]) for k in ("kernel", "bias")} for n in names}
    tx = optax.adam(1e-3)
    return make_train_step(graphdef, tx), (params, tx.init(params))
