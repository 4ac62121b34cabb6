"""From a picture to what the network sees, step by step, as one figure."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mnistjax.report.figures import STYLE
from mnistjax.report.fonts import drawable

MOST = 8  # characters, one below the other


def steps_figure(
    steps: Sequence[tuple[str, Sequence[np.ndarray]]], said: Sequence[Sequence[str]]
) -> Figure:
    """A column for each step, a row for each character; the lines `said` of each beside it.

    `steps` are titles with their images, uint8 [h, w] or [h, w, 1 or 3]: one, or one for each
    character. Of more than `MOST` characters the first are drawn.
    """
    rows = min(MOST, max(len(images) for _, images in steps))
    words = drawable([line for lines in said for line in lines])
    shown = iter(words.names)
    beside = ["\n".join(next(shown) for _ in lines) for lines in said]
    with matplotlib.rc_context(STYLE | {"font.family": words.families}):
        size = (2.3 * len(steps) + 1.6, 2.3 * rows + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, len(steps), squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for column, (title, images) in enumerate(steps):
            grid[0, column].set_title(title, fontsize=10)
            for axes, image in zip(grid[:, column], images, strict=False):
                axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
        for axes, text in zip(grid[:, -1], beside, strict=False):
            place = {"transform": axes.transAxes, "va": "center", "parse_math": False}
            axes.text(1.06, 0.5, text, fontsize=11, **place)
        return figure
