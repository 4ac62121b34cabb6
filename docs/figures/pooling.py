"""The figure of docs/learn/pooling.md: python docs/figures/pooling.py"""

from typing import Any

import jax.numpy as jnp
import matplotlib
import numpy as np
from drawing import STYLE, WIDTH, mark, numbers, write
from matplotlib.figure import Figure

import mnistjax as mj

TABLE = np.array([[1, 3, 2, 0], [5, 1, 0, 4], [0, 2, 7, 1], [2, 0, 3, 1]], np.float32)
KERNEL = np.array([[1, 1], [-1, 0]], np.float32)


def kinds() -> Figure:
    """A table, and what each kind of pooling makes of it."""
    x = jnp.asarray(TABLE)[None, ..., None]
    kernel = jnp.asarray(KERNEL)[..., None, None]
    strided = mj.ops.conv2d(x, kernel, strides=(2, 2), padding="VALID")
    how: Any = {"form": "{:.0f}", "cmap": "RdBu_r", "vmin": -8, "vmax": 8}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
        top, below = figure.subfigures(2, 1, height_ratios=(1.2, 1))
        table, maximum, average = top.subplots(1, 3, width_ratios=(1.3, 1, 1))
        numbers(table, TABLE, "a map, 4x4", **how)
        for row, column in np.ndindex(2, 2):
            mark(table, 2 * row, 2 * column, 2)
        numbers(maximum, mj.ops.max_pool(x)[0, ..., 0], "maximum 2x2", **how)
        numbers(average, mj.ops.avg_pool(x)[0, ..., 0], "average 2x2", **how | {"form": "{:.1f}"})
        kernels, convolution, largest, mean = below.subplots(1, 4, width_ratios=(1, 1, 0.8, 0.8))
        numbers(kernels, KERNEL, "a kernel, 2x2", **how)
        numbers(convolution, strided[0, ..., 0], "convolution,\nstride 2", **how)
        numbers(largest, [[TABLE.max()]], "global\nmaximum", **how)
        numbers(mean, [[TABLE.mean()]], "global\naverage", **how)
        return figure


if __name__ == "__main__":
    write(kinds(), "pooling-kinds")
