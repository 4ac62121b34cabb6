"""The figures of docs/learn/finetune.md.

python docs/figures/finetune.py --weights FILE
"""

import argparse
from functools import partial

import jax.numpy as jnp
import matplotlib
import numpy as np
from drawing import STYLE, WIDTH, picture, write
from matplotlib.figure import Figure
from mistakes import BLOCKS, by_255

import mnistjax as mj
from mnistjax.frozen.forward import maps_of_blocks

SIDE = 4  # of the square of channels that is shown


def square(maps: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """The `channels` of `maps` [height, width, all of them] side by side, black between them."""
    size, gap = len(maps), max(1, len(maps) // 8)
    whole = np.full((SIDE * (size + gap) - gap,) * 2, np.nan)
    for place, channel in enumerate(channels):
        row, column = (of * (size + gap) for of in divmod(place, SIDE))
        whole[row : row + size, column : column + size] = maps[..., channel]
    return whole


def seen(weights: mj.load_weights, digit: np.ndarray) -> Figure:
    """A digit and its maps after each block, with both ways to prepare it."""
    right = weights.preprocess(32)
    ways = {"as the weights want it": right, "divided by 255": partial(by_255, right)}
    chosen = {}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        for row, (name, way) in zip(figure.subplots(2, 4), ways.items(), strict=True):
            maps = maps_of_blocks(weights.params, digit[None], blocks=BLOCKS, preprocess=way)
            picture(row[0], np.asarray(way(jnp.asarray(digit[None])))[0, ..., 0], "")
            row[0].text(0, -0.1, name, transform=row[0].transAxes, va="top")
            for axes, (block, of) in zip(row[1:], maps.items(), strict=True):
                if block not in chosen:
                    chosen[block] = np.sort(of[0].std(axis=(0, 1)).argsort()[-(SIDE**2) :])
                shown = np.ma.masked_invalid(square(of[0], chosen[block]))
                picture(axes, shown, block.replace("k", "k ") if row[0] else "", cmap="viridis")
        return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", required=True)
    weights = mj.load_weights(parser.parse_args().weights, cut="block3")
    digits = mj.load_dataset("digits").test
    five = digits.images[np.flatnonzero(digits.labels == 5)[0]]
    write(seen(weights, five), "finetune-maps")
