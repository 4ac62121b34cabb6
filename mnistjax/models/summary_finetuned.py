"""A fine-tuned VGG16 as a table: the frozen blocks, which no module holds, and then its own."""

from collections.abc import Sequence

import numpy as np

from mnistjax.models.head import FineTuned
from mnistjax.models.summary import LayerRow, summarise
from mnistjax.models.vgg16 import convolutions, map_shape


def summarise_finetuned(
    model: FineTuned, frozen: Sequence[str], *, image_size: int, trains: Sequence[str]
) -> list[LayerRow]:
    """Every layer of the `frozen` blocks and of `model`; `trains`: the blocks that do.

    >>> from flax import nnx
    >>> model = FineTuned(input_shape=(16, 16, 64), rngs=nnx.Rngs(0))
    >>> rows = summarise_finetuned(model, ["block1"], image_size=32, trains=[])
    >>> [(row.name, row.trains) for row in rows[1:3]]
    [('backbone/block1_conv2', False), ('head/dense1', True)]
    """
    rows, size = [], image_size
    for layers in convolutions(frozen).values():
        for layer, shapes in layers.items():
            parameters = sum(int(np.prod(shape)) for shape in shapes.values())
            output = (size, size, shapes["kernel"][3])
            flops = size * size * (2 * int(np.prod(shapes["kernel"])) + output[2])
            rows.append(LayerRow(f"backbone/{layer}", "Conv", output, parameters, flops, False))
        size //= 2
    for row in summarise(model, map_shape((image_size, image_size, 3), frozen)):
        part, _, layer = row.name.partition("/")
        of_backbone = layer.partition("_")[0] in trains
        rows.append(
            row._replace(trains=of_backbone if part == "backbone" else layer != "standardise")
        )
    return rows
