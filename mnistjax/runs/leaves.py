"""The leaves of a state as Orbax can save them: keys as their numbers, empty arrays as one zero."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mnistjax.errors import UsageError
from mnistjax.training.freeze import paths
from mnistjax.training.state import TrainState


def plain(state: TrainState) -> TrainState:
    """`state` with arrays of numbers for leaves; raise `UsageError` for what is none.

    >>> bare = TrainState(jnp.zeros((), jnp.int32), {"key": jax.random.key(0)}, 0.5)
    >>> plain(bare).params["key"].dtype, plain(bare).opt_state
    (dtype('uint32'), Array(0.5, dtype=float32, weak_type=True))
    """
    if not isinstance(state, TrainState):
        raise UsageError("`state`", f"is a {type(state).__name__}", fix="pass a TrainState")
    leaves, structure = jax.tree.flatten(state)
    named = zip(paths(state), leaves, strict=True)
    return jax.tree.unflatten(structure, [_plain(leaf, path) for path, leaf in named])


def _plain(leaf: Any, path: str) -> Any:
    if isinstance(leaf, jax.Array):
        leaf = jax.random.key_data(leaf) if is_key(leaf) else leaf
        # Of several processes every one has all of it, and the first writes it, as its own.
        return leaf if jax.process_count() == 1 else np.asarray(leaf)
    array = np.asarray(leaf)
    if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool):
        why = f"{path} is {type(leaf).__name__}, no array"
        raise UsageError("`state`", why, fix="keep what is no number beside it, in `extra`")
    return jnp.asarray(leaf) if jax.process_count() == 1 else array


def is_key(leaf: Any) -> bool:
    """Whether it is a typed key, or several, as `jax.random.key` makes them."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def outline(state: TrainState) -> TrainState:
    """`state` with shapes for arrays, to restore one like it beside nothing: a key stays one."""
    return jax.tree.map(lambda leaf: leaf if is_key(leaf) else shape_of(leaf), state)


def shape_of(leaf: Any) -> jax.ShapeDtypeStruct:
    """What `plain` makes of `leaf`, of which only the shape is looked at: it may be donated."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    leaf = leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)
    shape = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    if is_key(leaf):
        shape = jax.eval_shape(jax.random.key_data, shape)
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=leaf.sharding)


def filled(leaf: Any) -> Any:
    """`leaf`, an array or a shape; what has no value, which Orbax refuses, with one."""
    if leaf.size:
        return leaf
    if isinstance(leaf, jax.ShapeDtypeStruct):
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        return jax.ShapeDtypeStruct((1,), leaf.dtype, sharding=device)
    return np.zeros(1, leaf.dtype)


def emptied(shape: jax.ShapeDtypeStruct, array: Any) -> Any:
    """The reverse of `filled`."""
    return array if shape.size else np.zeros(shape.shape, shape.dtype)


def as_it_was(like: Any, array: Any) -> Any:
    """The reverse of `plain`, for a leaf like `like`."""
    if is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like))
    return jnp.asarray(array)
