"""From a Flax module to pure functions over nested dicts: after this, Flax disappears."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from mnistjax.errors import UsageError

Params = Any
"""A tree of arrays: nested dicts here, anything that JAX takes for one elsewhere."""
ModelState = Any
"""A tree of arrays that training changes without a gradient, such as running statistics."""


@dataclass(frozen=True)
class ApplyWithState:
    """What `with_state` makes of a function: the mark by which steps know it."""

    fn: Callable[..., Any]
    axis: str | None = None

    def __call__(
        self, params: Params, model_state: ModelState, images: Array, key: Array | None = None
    ) -> tuple[Array, ModelState]:
        """Logits and the new state; with the key of a training step, without one to evaluate."""
        return self.fn(params, model_state, images, key)


ApplyFn = Callable[[Params, Array], Array] | ApplyWithState


def with_state(fn: Callable[..., Any], *, axis: str | None = None) -> ApplyWithState:
    """Mark `fn(params, model_state, images, key) -> (logits, model_state)` for the steps.

    `key` is that of the training step (`step_key`), or None where the model is evaluated: then
    without dropout, by running statistics; the state it returns is not looked at. `axis`: the
    mapped axis over which `fn` itself takes its statistics, for the pmap form of the step.

    >>> @with_state
    ... def noisy(params, model_state, images, key):
    ...     noise = 0 if key is None else jax.random.normal(key, images.shape)
    ...     return (images + noise) @ params["w"], model_state
    >>> noisy({"w": jnp.eye(2)}, {}, jnp.ones((1, 2)))[0].tolist()
    [[1.0, 1.0]]
    """
    return ApplyWithState(fn, axis)


def call(
    apply_fn: ApplyFn, params: Params, model_state: ModelState, images: Array, key: Array | None
) -> tuple[Array, ModelState]:
    """Logits and the new state of either kind of `apply_fn`; without one, the state stays.

    >>> call(lambda params, images: images @ params["w"], {"w": jnp.eye(1)}, (), jnp.ones((1, 1)), None)
    (Array([[1.]], dtype=float32), ())
    """  # noqa: E501
    if isinstance(apply_fn, ApplyWithState):
        return apply_fn(params, model_state, images, key)
    return apply_fn(params, images), model_state


class Functional(NamedTuple):
    """A model as a function and its arrays."""

    apply_fn: ApplyWithState
    params: Params
    model_state: ModelState


def functional(model: nnx.Module) -> tuple[Callable[[Params, Array], Array], Params]:
    """Split `model` into `apply_fn(params, images)` and its parameters, a plain nested dict.

    The arrays are copies: a training step that donates them leaves the module usable. Why not
    `nnx.jit`: its walk over the module costs 10.5 ms a call for 16 layers, `jax.jit` over a dict
    0.5 ms. Raises `UsageError` if the module holds state that is no parameter, or draws random
    numbers: that is for `functional_with_state`.

    >>> from mnistjax.models.cnn import CNN
    >>> apply_fn, params = functional(CNN(rngs=nnx.Rngs(0)))
    >>> params["dense2"]["kernel"].shape, apply_fn(params, jnp.zeros((2, 28, 28, 1))).shape
    ((128, 10), (2, 10))
    """
    if holds_state(model):
        why = "holds state beside its parameters, as BatchNorm and Dropout do"
        raise UsageError(type(model).__name__, why, fix="call functional_with_state(model)")
    graphdef, state = nnx.split(model, nnx.Param)
    params = jax.tree.map(jnp.copy, nnx.to_pure_dict(state))

    def apply_fn(params: Params, images: Array) -> Array:
        return nnx.merge(graphdef, params)(images)

    return apply_fn, params


def holds_state(model: nnx.Module) -> bool:
    """Whether `model` has more than parameters: statistics, or streams of random numbers."""
    _, _, rest = nnx.split(model, nnx.Param, ...)
    return bool(jax.tree.leaves(rest))


def functional_with_state(model: nnx.Module, *, axis: str | None = None) -> Functional:
    """Split any `model` into `(apply_fn, params, model_state)`, dicts of copied arrays.

    `apply_fn(params, model_state, images, key)` calls the module in training mode with every
    stream of random numbers made from `key`, and without a key in evaluation mode (`model.eval()`).
    Whatever the module holds that is neither parameter nor random is `model_state`; what it sows is
    dropped. `axis`: its BatchNorm layers average over that mapped axis (`over_pmap`).

    >>> class Net(nnx.Module):
    ...     def __init__(self, rngs):
    ...         self.norm = nnx.BatchNorm(2, momentum=0.5, rngs=rngs)
    ...         self.drop = nnx.Dropout(0.5, rngs=rngs)
    ...     def __call__(self, x):
    ...         return self.drop(self.norm(x))
    >>> apply_fn, params, model_state = functional_with_state(Net(nnx.Rngs(0)))
    >>> _, new = apply_fn(params, model_state, jnp.array([[0.0, 4.0]]), jax.random.key(1))
    >>> model_state["norm"]["mean"].tolist(), new["norm"]["mean"].tolist()
    ([0.0, 0.0], [0.0, 2.0])
    """
    graphdef, *states = nnx.split(model, nnx.Param, nnx.RngKey, nnx.RngCount, ...)
    params, keys, counts, model_state = (
        jax.tree.map(jnp.copy, nnx.to_pure_dict(state)) for state in states
    )
    structure = jax.tree.structure(model_state)

    def apply_fn(
        params: Params, model_state: ModelState, images: Array, key: Array | None
    ) -> tuple[Array, ModelState]:
        streams = keys if key is None else _streams(keys, key)
        if jax.tree.structure(model_state or {}) != structure:
            why = "is not what functional_with_state gave of it"
            raise UsageError("model_state", why, fix="pass model_state=state.model_state")
        model = nnx.merge(graphdef, params, streams, counts, model_state or {})
        if key is None:
            model.eval()
            return model(images), model_state
        model.train()
        if axis is not None:
            for _, module in nnx.iter_modules(model):
                if isinstance(module, nnx.BatchNorm):
                    module.axis_name = axis
        logits = model(images)
        new = nnx.split(model, nnx.Param, nnx.RngState, nnx.Intermediate, ...)[-1]
        return logits, nnx.to_pure_dict(new)

    return Functional(ApplyWithState(apply_fn, axis), params, model_state)


def _streams(keys: Any, key: Array) -> Any:
    """A key of its own for every stream, as many as it holds."""
    leaves, structure = jax.tree.flatten(keys)
    new = [jax.random.fold_in(key, number) for number in range(len(leaves))]
    pairs = zip(new, leaves, strict=True)
    new = [jax.random.split(k, leaf.shape) if leaf.shape else k for k, leaf in pairs]
    return jax.tree.unflatten(structure, new)
