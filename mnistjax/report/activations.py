"""What a backbone makes of a few images, block after block, as pictures."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from jax import Array
from matplotlib.figure import Figure

from mnistjax.models.frozen import make_frozen
from mnistjax.models.functional import Params
from mnistjax.report.figures import STYLE

CHANNELS = 4


def activations_figure(
    params: Params,
    images: np.ndarray,
    *,
    blocks: Sequence[str],
    preprocess: Callable[[Array], Array],
) -> Figure:
    """A row for each image: the image, then the strongest channels of every block's map.

    `images` are uint8 [n, height, width, channels], n at least 2; brighter is more active.
    """
    maps, x = {}, preprocess(jnp.asarray(images))
    for block in blocks:
        constant, apply_fn = make_frozen(params, blocks=[block], image_size=x.shape[1])
        maps[block] = np.asarray(x := jax.jit(apply_fn)(constant, x))  # 305 operations in one
    columns = 1 + CHANNELS * len(blocks)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.72 * columns, 0.8 * len(images) + 0.4), layout="constrained")
        grid = figure.subplots(len(images), columns, squeeze=False)
        for axes in grid.ravel():
            axes.axis("off")
        for axes, image in zip(grid[:, 0], images, strict=True):
            gray = image.shape[-1] == 1
            axes.imshow(image[..., 0] if gray else image, cmap="gray", vmin=0, vmax=255)
        for depth, (block, activation) in enumerate(maps.items()):
            first = 1 + CHANNELS * depth
            grid[0, first].set_title(block, fontsize=10, loc="left")
            strongest = activation.mean((0, 1, 2)).argsort()[::-1][:CHANNELS]
            for offset, channel in enumerate(strongest):
                top = activation[..., channel].max() or 1.0
                for axes, one in zip(grid[:, first + offset], activation, strict=True):
                    axes.imshow(one[..., channel], cmap="magma", vmin=0, vmax=top)
        return figure
