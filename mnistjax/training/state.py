"""What training carries from step to step: arrays, nothing else."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Int32

from mnistjax.data.batches import Batch
from mnistjax.models.functional import Params
from mnistjax.training.metrics import Metrics


class TrainState(NamedTuple):
    """Step counter, parameters, optimiser state. Functions (`apply_fn`, `tx`) stay outside."""

    step: Int32[Array, ""]
    params: Params
    opt_state: optax.OptState


TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def init_state(params: Params, tx: optax.GradientTransformation) -> TrainState:
    """The state before the first step.

    >>> state = init_state({"w": jnp.ones(2)}, optax.sgd(0.1))
    >>> int(state.step)
    0
    """
    return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))
