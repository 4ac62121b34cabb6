"""An exponential moving average of the parameters, kept by the optimiser and used to evaluate."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int32

from mnistjax.errors import UsageError
from mnistjax.models.functional import Params
from mnistjax.training.latest import states_of
from mnistjax.training.state import TrainState


class EmaState(NamedTuple):
    """Of `with_ema`: the averages of what trains, in float32 at least."""

    steps: Int32[Array, ""]
    averaged_params: Params
    inner_state: optax.OptState


def with_ema(
    tx: optax.GradientTransformation, decay: float = 0.999
) -> optax.GradientTransformationExtraArgs:
    """`tx`, whose state also holds an average of the parameters that it makes.

    average <- d * average + (1 - d) * parameters, where d is the smaller of `decay` and
    (1 + step) / (10 + step), so that the first parameters, which are random, are soon forgotten
    (TensorFlow's ExponentialMovingAverage with `num_updates`). `fit` validates with the averages, a
    run chooses, scores and gives them (`evaluated_params`); training itself goes on without them,
    and running statistics of a model with state are those of training. Raises `UsageError` for a
    `decay` outside of 0..1.

    >>> tx, params = with_ema(optax.sgd(1.0), decay=0.5), {"w": jnp.array(1.0)}
    >>> updates, state = tx.update({"w": jnp.array(1.0)}, tx.init(params), params)
    >>> round(float(state.averaged_params["w"]), 2)  # 0.1 * 1 + 0.9 * 0
    0.1
    """
    if not 0 <= decay < 1:
        raise UsageError(f"`decay` {decay}", "must be from 0 to below 1", fix="pass `decay=0.999`")
    inner = optax.with_extra_args_support(tx)

    def init(params: Params) -> EmaState:
        averages = jax.tree.map(lambda p: p.astype(_wide(p)), params)
        return EmaState(jnp.zeros((), jnp.int32), averages, inner.init(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, EmaState]:
        if params is None:
            raise UsageError("`params`", "are averaged, and not there", fix="pass `params`")
        updates, inner_state = inner.update(updates, state.inner_state, params, **extra)
        done = state.steps.astype(jnp.float32)
        keep = jnp.minimum(decay, (1 + done) / (10 + done))

        def average(change: Any, param: Any, was: Any) -> Any:
            if _absent(change):
                return was
            new = (param + change).astype(param.dtype).astype(was.dtype)
            return (keep * was + (1 - keep) * new).astype(was.dtype)

        averages = jax.tree.map(average, updates, params, state.averaged_params, is_leaf=_absent)
        return updates, EmaState(state.steps + 1, averages, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def evaluated_params(state: TrainState) -> Params:
    """What `state` is evaluated with: its averages where `with_ema` keeps some, else `params`.

    >>> from mnistjax.training.state import init_state
    >>> state = init_state({"w": jnp.ones(2)}, optax.sgd(0.1))
    >>> evaluated_params(state) is state.params
    True
    """
    params = state.params
    for ema in states_of(state.opt_state, EmaState):
        params = jax.tree.map(
            lambda own, average: own if _absent(average) else average.astype(own.dtype),
            params,
            ema.averaged_params,
        )
    return params


def _absent(leaf: Any) -> bool:
    """Of a frozen parameter nothing is kept."""
    return isinstance(leaf, optax.MaskedNode)


def _wide(param: Array) -> Any:
    """In 16 bits a thousandth of a step would be lost."""
    return jnp.float32 if param.dtype in (jnp.bfloat16, jnp.float16) else param.dtype
