"""The figures of docs/learn/finetune.md.

python docs/figures/finetune.py --weights FILE

The costs are read from the table of the page, which is what mistakes.py printed.
"""

import argparse
import re
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib
import numpy as np
from drawing import STYLE, WIDTH, picture, write
from matplotlib.figure import Figure
from mistakes import BLOCKS, by_255

import mnistjax as mj
from mnistjax.frozen.forward import maps_of_blocks
from mnistjax.report.figures import BAD, INK, TRAIN

PAGE = Path(__file__).parents[1] / "learn" / "finetune.md"
SIDE = 4  # of the square of channels that is shown


def square(maps: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """The `channels` of `maps` [height, width, all of them] side by side, black between them."""
    size, gap = len(maps), max(1, len(maps) // 8)
    whole = np.full((SIDE * (size + gap) - gap,) * 2, np.nan)
    for place, channel in enumerate(channels):
        row, column = (of * (size + gap) for of in divmod(place, SIDE))
        whole[row : row + size, column : column + size] = maps[..., channel]
    return whole


def seen(weights: Any, digit: np.ndarray) -> Figure:
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
                picture(axes, shown, block.replace("k", "k "), cmap="viridis")
        return figure


def costs(rows: list[tuple[str, str, str]]) -> Figure:
    """Mean and range of the accuracy by mistake, of both data sets; the line is what is right."""
    heights = np.arange(len(rows))[::-1]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.25 * len(rows)), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for number, (axes, title) in enumerate(zip(panels, ("MNIST", "photos"), strict=True), 1):
            for height, row in zip(heights, rows, strict=True):
                if not row[number].strip():
                    continue
                mean, low, high = map(float, re.findall(r"[\d.]+", row[number]))
                color = TRAIN if height == heights[0] else BAD
                axes.plot([low, high], [height, height], color=color, lw=3, clip_on=False)
                axes.plot(mean, height, "o", color=color, ms=6, clip_on=False)
                if height == heights[0]:
                    axes.axvline(mean, color=INK, lw=1, alpha=0.4)
            axes.set(title=title, xlim=(0, 100), xticks=[0, 50, 100], xlabel="accuracy, %")
            axes.grid(axis="y", alpha=0.2, color="#808080")
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
        panels[0].set_yticks(heights, [row[0].strip().replace("`", "") for row in rows])
        return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", required=True)
    weights = mj.load_weights(parser.parse_args().weights, cut="block3")
    digits = mj.load_dataset("digits").test
    five = digits.images[np.flatnonzero(digits.labels == 5)[0]]
    write(seen(weights, five), "finetune-maps")
    rows = re.findall(r"^\| ([^|]+) \|([^|\n]*)\|([^|\n]*)\|$", PAGE.read_text(), re.M)
    write(costs([row for row in rows if re.search(r"\d to \d", "".join(row))]), "finetune-costs")
