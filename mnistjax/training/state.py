"""What training carries from step to step: arrays, nothing else."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Int32

from mnistjax.models.functional import Params


class TrainState(NamedTuple):
    """Step counter, parameters, optimiser state. Functions (`apply_fn`, `tx`) stay outside."""

    step: Int32[Array, ""]
    params: Params
    opt_state: optax.OptState


def init_state(params: Params, tx: optax.GradientTransformation) -> TrainState:
    """The state before the first step.

    >>> state = init_state({"w": jnp.ones(2)}, optax.sgd(0.1))
    >>> int(state.step)
    0
    """
    return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))
