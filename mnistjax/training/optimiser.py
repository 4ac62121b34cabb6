"""One update by any optimiser of optax: with the loss, its gradient and the objective at hand."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from jaxtyping import Array

from mnistjax.errors import UsageError
from mnistjax.models.functional import Params
from mnistjax.training.gradients import Sums
from mnistjax.training.state import TrainState


def update(
    tx: optax.GradientTransformation,
    sums: Sums,
    state: TrainState,
    objective: Callable[[Params], Sums],
) -> tuple[optax.Updates, optax.OptState]:
    """The updates of what trains and the new optimiser state.

    `sums`: means over the batch, at `state.params`; `objective(params)` gives them elsewhere. Those
    that want more than a gradient get `value`, `grad` and `value_fn`, or `obj_fn`, called as optax
    calls them. What wants something else raises what it raises without any of these.
    """
    value_fn = _value_fn(objective)
    more = {"value": sums.loss, "grad": sums.grads, "value_fn": value_fn}
    # Not all at once: some refuse what they do not want (sam, the search of lbfgs).
    offers = {}, {"value": sums.loss}, more, {"obj_fn": value_fn}, more | {"obj_fn": value_fn}
    first: Exception | None = None
    for offer in offers:
        try:
            with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises a float to an int32
                of = optax.with_extra_args_support(tx)
                return of.update(sums.grads, state.opt_state, state.params, **offer)
        except (TypeError, ValueError) as error:
            first = first or error
    raise UsageError("`tx`", f"its update failed: {first}", fix=_FIX) from first


_FIX = "pass one whose update takes gradients, state and parameters, or `value`, `grad`, `value_fn`"


def _value_fn(objective: Callable[[Params], Sums]) -> Callable[[Params], Array]:
    """The loss as a function of what trains, with the gradient that the step itself takes.

    By a rule of its own: over a mapped axis a gradient of the sum over devices would be as many
    times too large as there are devices.
    """

    @jax.custom_vjp
    def value_fn(params: Params) -> Array:
        return objective(params).loss

    def forward(params: Params) -> tuple[Array, Any]:
        at = objective(params)
        return at.loss, at.grads

    def backward(grads: Any, by: Array) -> tuple[Any]:
        return (jax.tree.map(lambda leaf: leaf * by.astype(leaf.dtype), grads),)

    value_fn.defvjp(forward, backward)
    return value_fn
