"""The figures of docs/learn/convolution.md: python docs/figures/convolution.py"""

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from drawing import STYLE, WIDTH, mark, numbers, picture, write
from matplotlib.figure import Figure

import mnistjax as mj

EDGE = np.array([[-1, 0, 1]] * 3, np.float32)  # positive where it grows brighter to the right
PLACE = 10, 5


def convolve(image: jax.Array, kernel: np.ndarray) -> jax.Array:
    x, k = jnp.asarray(image)[None, ..., None], jnp.asarray(kernel)[..., None, None]
    return mj.ops.conv2d(x, k, padding="VALID")[0, ..., 0]


def one_place(image: np.ndarray) -> Figure:
    """The window, the kernel, their products; and where their sum stands in the result."""
    row, column = PLACE
    window = image[row : row + 3, column : column + 3]
    result = convolve(image, EDGE)
    around = {"cmap": "RdBu_r", "vmin": -3, "vmax": 3}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
        top, below = figure.subfigures(2, 1, height_ratios=(3, 2))
        left, right = top.subplots(1, 2)
        picture(left, image, "image, 28x28", vmin=0, vmax=1)
        mark(left, row, column, 3)
        picture(right, result, "result, 26x26", **around)
        mark(right, row, column)
        first, second, third = below.subplots(1, 3)
        numbers(first, window, "window", vmin=0, vmax=1)
        numbers(second, EDGE, "kernel", form="{:.0f}", **around)
        total = f"{(window * EDGE).sum():.1f}".replace("-", "−")
        numbers(third, window * EDGE, f"products, sum {total}", **around)
        for axes, sign in ((second, "×"), (third, "=")):
            axes.text(-0.12, 0.5, sign, transform=axes.transAxes, ha="center", va="center", size=14)
        return figure


def as_one_matrix() -> Figure:
    """The same sums as a matrix for an image of 8x8: a row for each of the 36 results."""
    kernel = np.arange(1, 10, dtype=np.float32).reshape(3, 3)
    matrix = jax.jacobian(lambda image: convolve(image, kernel))
    rows = np.asarray(matrix(jnp.zeros((8, 8)))).reshape(36, 64)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
        axes = figure.subplots()
        shown = axes.imshow(
            np.ma.masked_equal(rows, 0), cmap="viridis", vmin=-1, interpolation="nearest"
        )
        axes.set(xlabel="pixel of the image, 64", ylabel="place of the result, 36")
        axes.spines[["top", "right"]].set_visible(True)
        bar = figure.colorbar(shown, ax=axes, ticks=range(1, 10), shrink=0.9)
        bar.ax.set_ylim(0.5, 9.5)
        bar.set_label("which of the nine weights")
        return figure


if __name__ == "__main__":
    digits = mj.load_dataset("digits").test
    five = digits.images[np.flatnonzero(digits.labels == 5)[0], ..., 0] / np.float32(255)
    write(one_place(five), "convolution-place")
    write(as_one_matrix(), "convolution-matrix")
