"""The model as a table: what each layer makes, how many parameters, how much arithmetic."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mnistjax.models.functional import Params
from mnistjax.models.head import Standardise
from mnistjax.models.layers import ConvPool
from mnistjax.ops.lowering import as_lax

NORMS = (Standardise, nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm, nnx.RMSNorm, nnx.InstanceNorm)


class LayerRow(NamedTuple):
    """One layer, for one image: the shape it makes, its parameters, its forward FLOPs.

    `flops`: None where they could not be counted. `trains`: False where the parameters are frozen.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    flops: int | None
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

    def outputs(state: Any, images: jax.Array):  # merged inside: capturing writes on the model
        model = nnx.merge(graphdef, state)
        model.eval()  # of one image there are no batch statistics
        return nnx.capture(model, nnx.Intermediate, method_outputs=nnx.Intermediate)(images)[1]

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    arrays = nnx.to_pure_dict(state)
    try:
        with as_lax():  # the same shapes in fewer operations
            shapes = jax.eval_shape(outputs, arrays, images)
    except Exception:  # of a model with a scan inside; or of one that does not take such images
        jax.eval_shape(lambda s, x: nnx.merge(graphdef, s)(x), arrays, images)
        shapes = {}
    rows, counted = [], set[int]()
    for path, module in nnx.iter_modules(model):
        params = {k: v for k, v in vars(module).items() if isinstance(v, nnx.Param)}
        own = {k: v[...] for k, v in params.items()}
        if not own:
            continue
        calls = _calls(shapes, path)
        name = "/".join(str(part) for part in path) or type(module).__name__
        parameters = sum(own[k].size for k, v in params.items() if id(v) not in counted)
        counted |= {id(v) for v in params.values()}  # one that layers share counts once
        output = calls[0].shape[1:] if calls else ()
        flops = sum(filter(None, (_flops(module, own, call) for call in calls))) or None
        rows.append(LayerRow(name, type(module).__name__, output, parameters, flops))
    total = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    if missing := total - sum(row.parameters for row in rows):
        rows.append(LayerRow("elsewhere", "", (), missing, None))
    return rows


def summarise_params(params: Params) -> list[LayerRow]:
    """A row for each group of parameters, of a model that is no NNX module: without its arithmetic.

    >>> [row[:4] for row in summarise_params({"dense": {"kernel": np.zeros((2, 3))}})]
    [('dense', '', (), 6)]
    """
    sizes: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path[:-1] or path, simple=True, separator="/")
        sizes[name] = sizes.get(name, 0) + leaf.size
    return [LayerRow(name, "", (), size, None) for name, size in sizes.items()]


def total_flops(rows: Sequence[LayerRow]) -> str:
    """All that could be counted: "at least" where a layer's could not.

    >>> row = LayerRow("a", "Linear", (2,), 6, 1000)
    >>> total_flops([row]), total_flops([row, row._replace(flops=None)])
    ('1,000', 'at least 1,000')
    """
    least = "" if all(row.flops is not None for row in rows) else "at least "
    return f"{least}{sum(row.flops or 0 for row in rows):,}"


def _calls(shapes: Any, path: tuple[Any, ...]) -> Sequence[jax.ShapeDtypeStruct]:
    """What the module at `path` made, each time it was called."""
    for part in path:
        if part not in shapes:
            return ()
        shapes = shapes[part]
    return shapes["__call__"].get_value() if "__call__" in shapes else ()


def _flops(module: nnx.Module, params: dict[str, Any], output: jax.ShapeDtypeStruct) -> int | None:
    """Of one call of a layer; None for kinds that are not known here."""
    positions = int(np.prod(output.shape)) // output.shape[-1]
    if isinstance(module, nnx.Conv | nnx.Linear):
        positions *= 4 if isinstance(module, ConvPool) else 1  # each pools 2x2 of them
        bias = positions * output.shape[-1] if "bias" in params else 0
        return 2 * int(np.prod(params["kernel"].shape)) * positions + bias
    if isinstance(module, NORMS):
        return 2 * positions * output.shape[-1]  # a difference and a product
    return None
