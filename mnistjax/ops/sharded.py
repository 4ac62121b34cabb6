"""Operations on arrays whose types say how they lie on devices: JAX's explicit meshes, shard_map.

XLA divides the work over the devices itself; reshapes and products inside an operation need not
know. So a batch that is sharded by type is handed on without its type, and gets it back.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import jax
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array

from mnistjax.ops.lowering import reverse_mode_only

Op = TypeVar("Op", bound=Callable[..., Array])


def anywhere(op: Op) -> Op:
    """`op(x, ...)` for any layout of `x` by rows; the result lies as its rows do.

    In a `shard_map` that checks what varies, all arrays vary as much as the one that varies most:
    the gradient of a kernel that does not is then summed over devices, as JAX's own operations do.
    """

    @wraps(op)
    def wrapped(*args: Any, **static: Any) -> Array:
        leaves, structure = jax.tree.flatten((args, static))
        places = [i for i, leaf in enumerate(leaves) if hasattr(leaf, "dtype")]

        def call(*arrays: Array) -> Array:
            there = dict(zip(places, arrays, strict=True))
            filled = [there.get(i, leaf) for i, leaf in enumerate(leaves)]
            args, static = jax.tree.unflatten(structure, filled)
            with reverse_mode_only(op.__name__):
                return op(*args, **static)

        arrays = vary_alike([leaves[i] for i in places])
        layout = _rows_of(arrays[0])
        if layout is None:
            return call(*arrays)
        divided: Any = jax.sharding.auto_axes(call, out_sharding=layout)
        return divided(*arrays)

    return wrapped  # type: ignore[return-value]


def _rows_of(x: Array) -> NamedSharding | None:
    """How the rows of `x` lie on an explicit mesh; None where there is none."""
    sharding = jax.typeof(x).sharding
    if AxisType.Explicit not in sharding.mesh.axis_types:
        return None
    rows = sharding.spec[0] if sharding.spec else None
    return NamedSharding(sharding.mesh, PartitionSpec(rows, None, None, None))


def varying(array: Any) -> frozenset[str]:
    """The axes of a `shard_map` over which the type of `array` says that it varies."""
    kind = array if isinstance(array, jax.ShapeDtypeStruct) else jax.typeof(array)
    kind = getattr(kind, "manual_axis_type", kind)  # before jax 0.10.2 it was `kind.vma`
    axes = getattr(kind, "varying", None) or getattr(kind, "vma", None)
    return axes or frozenset()


def vary(array: Array, axes: frozenset[str]) -> Array:
    """`array` as one that varies over all of `axes`."""
    missing = tuple(axes - varying(array))
    return lax.pcast(array, missing, to="varying") if missing else array


def vary_alike(arrays: list[Array]) -> list[Array]:
    """`arrays` as ones that all vary over what any of them does."""
    axes = frozenset().union(*map(varying, arrays))
    return [vary(array, axes) for array in arrays]
