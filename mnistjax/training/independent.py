"""Does a model treat each example for itself? Read off its program, without computing anything."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jaxtyping import Array

from mnistjax.errors import UsageError
from mnistjax.models.functional import Params
from mnistjax.ops.lowering import as_lax

# A number of examples that no other axis has, and none is a multiple of: what has is their axis.
EXAMPLES = 10_007


def check_independent(forward: Callable[[Params, Array], Any], params: Params, images: Any) -> None:
    """Raise `UsageError` if `forward(params, images)` reduces, sorts or contracts over examples.

    The mean of a batch, for one, would be that of each portion, with the rows that fill up a last
    batch in it: an update 39 % off, in a batch-normalised network that was tried. What goes on
    behind a callback, or by indices, is not seen.

    >>> check_independent(lambda params, x: x - x.mean(), {}, jax.ShapeDtypeStruct((4, 2), "float32"))
    Traceback (most recent call last):
    mnistjax.errors.UsageError: `apply_fn`: its examples depend on each other (reduce_sum over the batch). Fix: mark it by with_state, as a function (params, model_state, images, key) -> (logits, model_state)
    """  # noqa: E501
    many = jax.ShapeDtypeStruct((EXAMPLES, *images.shape[1:]), images.dtype)
    shapes = jax.eval_shape(lambda tree: tree, params)
    with as_lax():  # the same sums in fewer operations: a step is traced 8 to 25 % faster
        program = jax.make_jaxpr(forward)(shapes, many)
    for equation in _equations(program.jaxpr):
        if any(size and size % EXAMPLES == 0 for size in _reduced(equation)):
            why = f"its examples depend on each other ({equation.primitive} over the batch)"
            fix = "mark it by with_state, as a function (params, model_state, images, key) -> "
            raise UsageError("`apply_fn`", why, fix=f"{fix}(logits, model_state)")


def _equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """All of `jaxpr` and of what it calls."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves([*equation.params.values()], is_leaf=_is_program):
            if _is_program(inner):
                yield from _equations(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner)


def _is_program(value: Any) -> bool:
    return isinstance(value, ClosedJaxpr | Jaxpr)


def _reduced(equation: JaxprEqn) -> list[int]:
    """The sizes of the axes that `equation` mixes the values of."""
    name, params = equation.primitive.name, equation.params
    aval: Any = equation.invars[0].aval if equation.invars else None
    shape: Any = getattr(aval, "shape", ())
    if name == "dot_general":
        return [shape[axis] for axis in params["dimension_numbers"][0][0]]
    if name.startswith(("reduce_", "arg")) and "axes" in params:
        return [shape[axis] for axis in params["axes"]]
    if name.startswith("cum"):
        return [shape[params["axis"]]]
    return [shape[params["dimension"]]] if name == "sort" else []
