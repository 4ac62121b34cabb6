"""A picture of what a backbone's blocks see in images of a few classes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax import Array
from matplotlib.figure import Figure

from mnistjax.data.dataset import Split
from mnistjax.frozen.forward import maps_of_blocks
from mnistjax.models.functional import Params
from mnistjax.report.activations import activations_figure

SHOWN = 5


def seen_by_blocks(
    backbone: Params, split: Split, *, blocks: Sequence[str], preprocess: Callable[[Array], Array]
) -> dict[str, Figure]:
    """By its title: the first image of each of the first five classes, and each block's map."""
    first: Any = np.unique(split.labels, return_index=True)[1][:SHOWN]
    shown = split.images[first]
    maps = maps_of_blocks(backbone, shown, blocks=blocks, preprocess=preprocess)
    return {"What the blocks see": activations_figure(shown, maps)}
