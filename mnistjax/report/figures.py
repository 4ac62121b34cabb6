"""Figures by matplotlib, drawn once for paper and for a page that may be light or dark."""

import io
import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from mnistjax.report.fonts import drawable
from mnistjax.report.scores import probabilities

# Blue, orange, green of Okabe and Ito's palette for colour-blind readers; fine on white and black.
TRAIN, VALIDATION, GOOD, BAD = "#2E8BC9", "#E69F00", "#009E73", "#D55E00"
MOST_NAMED = 60  # classes whose names and numbers can still be read
INK = "#010203"  # becomes the page's own text colour in `to_svg`

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
}


def learning_curves(epochs: list[dict[str, Any]], *, best: int) -> Figure:
    """Every figure by epoch, training and validation if any; a ring marks epoch `best`."""
    names = [name.removeprefix("train_") for name in epochs[0] if name.startswith("train_")]
    names = [name for name in names if name != "seconds"]
    rows, columns = -(-len(names) // 2), min(len(names), 2)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.5 * columns, 3.4 * rows), layout="constrained")
        for axes, name in zip(
            figure.subplots(rows, columns, squeeze=False).flat, names, strict=False
        ):
            for part, label, color in (
                ("train", "training", TRAIN),
                ("val", "validation", VALIDATION),
            ):
                known = [row for row in epochs if f"{part}_{name}" in row]
                x, y = [row["epoch"] for row in known], [row[f"{part}_{name}"] for row in known]
                if known:
                    axes.plot(x, y, ".-", color=color, label=label)
            chosen = next(row for row in epochs if row["epoch"] == best)
            if (y_best := chosen.get(f"val_{name}")) is not None:
                ring = {"mfc": "none", "mec": VALIDATION, "mew": 1.5, "label": "best"}
                axes.plot(best, y_best, "o", ms=11, **ring)
            axes.set(xlabel="epoch", title=name.replace("_", " "))
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(alpha=0.2, color="#808080")
            axes.legend(frameon=False)
        return figure


def confusion_figure(matrix: np.ndarray, class_names: tuple[str, ...]) -> Figure:
    """Rows are the truth, columns the answers; mistakes are coloured by their number (log).

    Of more than `MOST_NAMED` classes neither names nor numbers are written.
    """
    count, drawn = len(class_names), drawable(class_names)
    side = max(4.0, min(0.42 * count + 2, 14.0))
    with matplotlib.rc_context(STYLE | {"font.family": drawn.families}):
        figure = Figure(figsize=(side + 0.5, side), layout="constrained")
        axes = figure.subplots()
        mistakes = np.ma.masked_less(matrix * (1 - np.eye(count, dtype=int)), 1)
        top = max(int(mistakes.max() or 0) if mistakes.count() else 0, 10)
        axes.imshow(mistakes, cmap="Oranges", norm=LogNorm(1, top * 3))
        axes.set(xlabel="answer", ylabel="truth")
        if count <= MOST_NAMED:
            _write_cells(axes, matrix, drawn.names)
        axes.tick_params(length=0)
        return figure


def _write_cells(axes: Axes, matrix: np.ndarray, names: tuple[str, ...]) -> None:
    for (row, column), value in np.ndenumerate(matrix):
        if value:
            wrong = row != column
            color = "#402000" if wrong else INK
            weight = "normal" if wrong else "bold"
            style: Any = {"color": color, "fontsize": 9, "fontweight": weight}
            axes.text(column, row, str(value), ha="center", va="center", **style)
    short = [name if len(name) < 16 else name[:14] + "…" for name in names]
    rotation = 90 if max(map(len, short)) > 2 else 0
    # A name is no formula, whatever dollars it has.
    axes.set_xticks(range(len(short)), short, rotation=rotation, parse_math=False)
    axes.set_yticks(range(len(short)), short, parse_math=False)


def seen_figure(images: np.ndarray) -> Figure:
    """Images as the network gets them, uint8 [n, height, width, channels], n at most 25."""
    picture = mosaic(images / 255, 5)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6, 6 * picture.shape[0] / picture.shape[1]), layout="constrained")
        _show(figure, picture)
        return figure


def most_wrong_figure(
    images: np.ndarray, labels: np.ndarray, logits: np.ndarray, class_names: tuple[str, ...]
) -> Figure:
    """Images in rows of five, each with its truth, the answer, and the answer's probability."""
    shares, drawn = probabilities(logits), drawable(class_names)
    side, above = max(96, *images.shape[1:3]), 24
    picture = mosaic(images / 255, 5, side=side, gap=(above, side // 8))
    with matplotlib.rc_context(STYLE | {"font.family": drawn.families}):
        figure = Figure(figsize=(8, 1.76 * max(5, -(-len(labels) // 5))), layout="constrained")
        axes = _show(figure, picture)
        for index, (label, share) in enumerate(zip(labels, shares, strict=True)):
            answer = int(share.argmax())
            truth, said = drawn.names[label][:12], drawn.names[answer][:12]
            right = answer == label
            text = (
                f"{truth} at {share[label]:.0%}"
                if right
                else f"{truth} → {said} {share[answer]:.0%}"
            )
            row, column = divmod(index, 5)
            place = column * (side + side // 8) + side / 2, row * (side + above)
            style: Any = {"color": GOOD if right else BAD, "parse_math": False}
            axes.text(*place, text, ha="center", va="bottom", **style)
        return figure


def filters_figure(kernel: np.ndarray) -> Figure:
    """The first layer's filters [height, width, in, out]: blue below zero, red above."""
    filters = np.moveaxis(kernel, -1, 0)[:64]
    color = filters.shape[-1] == 3
    largest = float(np.abs(filters).max()) or 1.0
    columns = min(16, len(filters))
    shown = filters / largest / 2 + 0.5 if color else filters.mean(axis=-1, keepdims=True)
    picture = mosaic(shown, columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 9 * picture.shape[0] / picture.shape[1]), layout="constrained")
        _show(figure, picture, cmap="RdBu_r", vmin=-largest, vmax=largest)
        return figure


def mosaic(
    tiles: np.ndarray, columns: int, *, side: int = 96, gap: tuple[int, int] = (4, 4)
) -> np.ndarray:
    """`tiles` [n, height, width, 1 or 3] enlarged to squares in one picture, nothing in between.

    Of one channel the picture is [rows, columns] with NaN for nothing, of three it is RGBA. Axes
    of its own for each tile took 50 ms a tile to make and to draw.

    >>> mosaic(np.ones((3, 2, 2, 1)), columns=2, side=4, gap=(1, 2)).shape
    (9, 10)
    """
    count, height, width, channels = tiles.shape
    nearest = np.arange(side)
    tiles = tiles[:, nearest * height // side][:, :, nearest * width // side]
    whole = tiles[..., 0]
    if channels == 3:
        whole = np.concatenate([tiles, np.ones_like(tiles[..., :1])], axis=-1)
    rows, (below, beside) = -(-count // columns), gap
    size = rows * (side + below) - below, columns * (side + beside) - beside
    picture = np.full((*size, *whole.shape[3:]), 0.0 if channels == 3 else np.nan)
    for index, tile in enumerate(whole):
        row, column = divmod(index, columns)
        top, left = row * (side + below), column * (side + beside)
        picture[top : top + side, left : left + side] = tile
    return picture


def _show(figure: Figure, picture: np.ndarray, **how: Any) -> Axes:
    axes = figure.subplots()
    axes.axis("off")
    axes.imshow(picture, **{"cmap": "gray", "vmin": 0, "vmax": 1} | how)
    return axes


def save_png(figure: Figure, path: Path) -> None:
    """Write `figure` on white, for slides and mails.

    Its parts stay where they were put: laying four figures out again takes a quarter of a report.
    """
    figure.savefig(path, dpi=150, facecolor="white")
    figure.set_layout_engine("none")


def to_svg(figure: Figure, *, salt: str) -> str:
    """`figure` as SVG to stand in a page: text in the page's colour, no id shared with others."""
    file = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": salt}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    for name in set(re.findall(r' id="([^"]+)"', svg)):
        for before, after in (
            (f'id="{name}"', f'id="{salt}-{name}"'),
            (f'#{name}"', f'#{salt}-{name}"'),
        ):
            svg = svg.replace(before, after)
        svg = svg.replace(f"url(#{name})", f"url(#{salt}-{name})")
    return svg.replace(INK, "currentColor")
