"""A network of ours as words that a file can hold, and the network again from them."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from mnistjax.models.cnn import CNN
from mnistjax.models.functional import Params
from mnistjax.models.head import FineTuned

Described = Mapping[str, Any]
"""JSON: "network" is its class, the rest its arguments."""


def describe(model: nnx.Module) -> dict[str, Any]:
    """What `network` needs to make `model` again; of other modules only their name.

    >>> describe(CNN(num_classes=3, rngs=nnx.Rngs(0)))
    {'network': 'CNN', 'image_shape': [28, 28, 1], 'num_classes': 3, 'pool': 'max', 'lrn': False, 'dtype': 'float32'}
    """  # noqa: E501
    name = {"network": type(model).__name__}
    if type(model) is CNN:
        return name | {
            "image_shape": [*model.image_shape],
            "num_classes": model.dense2.out_features,
            "pool": model.conv1.pool,
            "lrn": model.lrn,
            "dtype": _dtype(model.dense2),
        }
    if type(model) is FineTuned:
        return name | {
            "input_shape": [*model.input_shape],
            "blocks": list(dict.fromkeys(of.partition("_")[0] for of in _layers(model))),
            "num_classes": model.head.dense2.out_features,
            "kind": model.head.kind,
            "hidden": [model.head.dense1.out_features],  # dropout is for training only
            "standardise": model.head.standardise is not None,
            "dtype": _dtype(model.head.dense2),
        }
    return {"network": type(model).__name__, "ours": False}


def network(described: Described) -> Callable[[Params, Array], Array] | None:
    """`apply_fn(params, images)` of what `describe` described; None for a network not ours.

    No parameter is made for it. `images` are float32 [n, *shape], as the network takes them.

    >>> described = {"network": "CNN", "image_shape": [28, 28, 1], "num_classes": 3}
    >>> network(described) is not None, network({"network": "MyNet", "ours": False})
    (True, None)
    """
    module = module_of(described)
    return None if module is None else lambda params, images: module(params)(images)


def module_of(described: Described) -> Callable[[Params], Any] | None:
    """What makes the described module of its parameters; None for a network not ours."""
    known = {"CNN": CNN, "FineTuned": FineTuned}.get(described["network"])
    if known is None or not described.get("ours", True):
        return None
    more = "network", "frozen"  # what else is said of it
    arguments = {name: _argument(of) for name, of in described.items() if name not in more}
    model = nnx.eval_shape(lambda: known(**arguments, rngs=nnx.Rngs(0)))
    graphdef, _ = nnx.split(model, nnx.Param)
    return lambda params: nnx.merge(graphdef, params)


def _argument(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _layers(model: FineTuned) -> list[str]:
    return [layer for layers in model.backbone.layers for layer in layers]


def _dtype(layer: nnx.Linear) -> str:
    return jnp.dtype(layer.dtype or jnp.float32).name
