"""What a backbone makes of a few images, block after block, as pictures."""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mnistjax.report.figures import STYLE, mosaic

CHANNELS = 4


def activations_figure(images: np.ndarray, maps: Mapping[str, np.ndarray]) -> Figure:
    """A row for each image: the image, then the strongest channels of every block's map.

    `images` are uint8 [n, height, width, channels], n at least 2; `maps` are float of the same
    layout, by the block's name (`frozen.forward.maps_of_blocks`). Brighter is more active.
    """
    pictures = {"": mosaic(images / 255, 1)}
    for block, activation in maps.items():
        strongest = activation.mean((0, 1, 2)).argsort()[::-1][:CHANNELS]
        chosen = activation[..., strongest]
        chosen = chosen / np.maximum(chosen.max((0, 1, 2)), 1e-9)
        tiles = np.moveaxis(chosen, -1, 1).reshape(-1, *chosen.shape[1:3], 1)
        pictures[block] = mosaic(tiles, CHANNELS)
    widths = [picture.shape[1] for picture in pictures.values()]
    size = 0.72 * sum(widths) / widths[0], 0.75 * len(images) + 0.4
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
        for axes, (block, picture) in zip(grid, pictures.items(), strict=True):
            axes.axis("off")
            axes.set_title(block, fontsize=10, loc="left")
            axes.imshow(picture, cmap="magma" if block else "gray", vmin=0, vmax=1)
        return figure
