"""The model as a table: what each layer makes, how many parameters, how much arithmetic."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mnistjax.models.head import Standardise
from mnistjax.models.layers import ConvPool


class LayerRow(NamedTuple):
    """One layer, for one image: the shape it makes, its parameters, its forward FLOPs.

    `trains`: False where the parameters are frozen.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    flops: int
    trains: bool = True


def summarise(model: nnx.Module, image_shape: tuple[int, int, int]) -> list[LayerRow]:
    """A row for each layer with parameters; nothing is computed, only shapes are traced.

    FLOPs count a multiply and an add as two: 2 * kernel size * output positions, plus the bias.
    They are those of the definition: Winograd's algorithm does fewer.

    >>> from mnistjax.models.cnn import CNN
    >>> rows = summarise(CNN(rngs=nnx.Rngs(0)), (28, 28, 1))
    >>> rows[1][:5]
    ('conv2', 'ConvPool', (5, 5, 64), 18496, 3692800)
    >>> sum(row.parameters for row in rows)
    225034
    """

    graphdef, state = nnx.split(model)

    def outputs(images: jax.Array):  # the model is merged inside: capturing writes on it
        model = nnx.merge(graphdef, state)
        return nnx.capture(model, nnx.Intermediate, method_outputs=nnx.Intermediate)(images)[1]

    shapes = jax.eval_shape(outputs, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))
    rows = []
    for path, module in nnx.iter_modules(model):
        if not isinstance(module, nnx.Conv | nnx.Linear | Standardise):
            continue
        name = "/".join(str(part) for part in path)
        state = nnx.to_pure_dict(nnx.state(module, nnx.Param))
        layer = shapes
        for part in path:
            layer = layer[part]
        (output,) = layer["__call__"].get_value()
        parameters = sum(leaf.size for leaf in jax.tree.leaves(state))
        positions = int(np.prod(output.shape)) // output.shape[-1]
        positions *= 4 if isinstance(module, ConvPool) else 1  # each pools 2x2 of them
        if isinstance(module, Standardise):
            flops = 2 * output.shape[-1]  # a difference and a product
        else:
            flops = 2 * int(np.prod(state["kernel"].shape)) * positions
            flops += positions * output.shape[-1] if "bias" in state else 0
        rows.append(LayerRow(name, type(module).__name__, output.shape[1:], parameters, flops))
    return rows
