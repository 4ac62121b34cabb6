"""What training carries from step to step: arrays, nothing else."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int32

from mnistjax.data.batches import Batch
from mnistjax.models.functional import ModelState, Params
from mnistjax.training.metrics import Metrics


class TrainState(NamedTuple):
    """Step counter, parameters, optimiser state. Functions (`apply_fn`, `tx`) stay outside.

    `model_state` is what training changes without a gradient, running statistics for one
    (`models.functional.with_state`); most models have none.
    """

    step: Int32[Array, ""]
    params: Params
    opt_state: optax.OptState
    model_state: ModelState = ()


TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def init_state(
    params: Params, tx: optax.GradientTransformation, model_state: ModelState = ()
) -> TrainState:
    """The state before the first step, in arrays of its own: `params` stay the caller's.

    >>> state = init_state({"w": jnp.ones(2)}, optax.sgd(0.1))
    >>> int(state.step)
    0
    """
    return own(TrainState(jnp.zeros((), jnp.int32), params, tx.init(params), model_state))


def own(state: TrainState) -> TrainState:
    """A copy of every array of `state`, for steps to donate.

    What others hold stays theirs then, and no array is in it twice: prodigy, sam and mechanize
    begin with the parameters themselves in their state, which XLA refuses to be given twice.

    >>> params = {"w": jnp.ones(2)}
    >>> own(init_state(params, optax.sgd(0.1))).params["w"] is params["w"]
    False
    """
    return jax.tree.map(jnp.copy, state)
