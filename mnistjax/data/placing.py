"""Where the rows of a batch lie: on one device, or divided over those of all processes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int32

AXIS = "data"
EVERYWHERE, BY_ROWS = PartitionSpec(), PartitionSpec(AXIS)


def data_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with the one axis `data` over `devices`, by default all, of every process.

    >>> data_mesh(jax.local_devices()[:1]).axis_names
    ('data',)
    """
    chosen = np.array(jax.devices() if devices is None else devices)
    return Mesh(chosen, (AXIS,), axis_types=(AxisType.Auto,))


def own_rows(row: Int32[np.ndarray, " batch"]) -> Int32[np.ndarray, " own"]:
    """The part of a batch's `row` that this process gathers: of one that divides its share.

    >>> own_rows(np.arange(4, dtype=np.int32)).tolist()  # the only process
    [0, 1, 2, 3]
    """
    if len(row) % jax.device_count():
        return row
    return np.split(row, jax.process_count())[jax.process_index()]


def layout_of(count: int) -> NamedSharding:
    """How `count` rows lie on all devices: by rows, or everywhere where they do not divide."""
    return NamedSharding(data_mesh(), EVERYWHERE if count % jax.device_count() else BY_ROWS)


def from_own_rows(count: int) -> Callable[[np.ndarray], jax.Array]:
    """What makes a batch of `count` rows of what each process has gathered of it (`own_rows`)."""
    layout = layout_of(count)
    return lambda own: jax.make_array_from_process_local_data(layout, own)


def shape_over_processes(shape: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """`shape` of a batch's array as it comes to the step: with its layout if there are several."""
    if jax.process_count() == 1:
        return shape
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=layout_of(shape.shape[0]))
