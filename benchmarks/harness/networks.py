"""Networks of the field that the job `nets` measures: their Flax modules, by name, and operations.

JAX and Flax are imported where they are needed: `--help` does without.
"""

import math
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flax import nnx

NETWORKS = {"resnet": "ResNet-18", "mobilenet": "MobileNetV2"}
SHAPE = (32, 32, 3)


def network(name: str) -> "nnx.Module":
    """The module with fresh parameters, for images of `SHAPE` and 10 classes."""
    from flax import nnx

    from mnistjax.models.mobilenet import MobileNetV2
    from mnistjax.models.resnet import ResNet

    return {"resnet": ResNet, "mobilenet": MobileNetV2}[name](rngs=nnx.Rngs(0))


def by_path(params: Any) -> dict[str, Any]:
    """The arrays of nested dicts by names such as `blocks/0/conv1/kernel`.

    >>> by_path({"blocks": {0: {"kernel": 1.0}}, "bias": 2.0})
    {'bias': 2.0, 'blocks/0/kernel': 1.0}
    """
    import jax

    leaves, _ = jax.tree.flatten_with_path(params)
    return {_name(path): leaf for path, leaf in leaves}


def filled(params: Any, arrays: Mapping[str, Any]) -> Any:
    """Nested dicts like `params` with the arrays of those names.

    >>> filled({"blocks": {0: {"kernel": 1.0}}}, {"blocks/0/kernel": 3.0})
    {'blocks': {0: {'kernel': 3.0}}}
    """
    import jax

    return jax.tree.map_with_path(lambda path, _: arrays[_name(path)], params)


def forward_flops(name: str) -> float:
    """Of the convolutions and the dense layer, of one image; BatchNorm is not counted.

    >>> round(forward_flops("resnet") / 1e9, 2), round(forward_flops("mobilenet") / 1e9, 3)
    (1.11, 0.176)
    """
    return sum(_flops_by_layer(name))


def step_flops(name: str) -> float:
    """A training step: forward, two gradients of each layer, none of the pixels.

    >>> round(step_flops("resnet") / 1e9, 2), round(step_flops("mobilenet") / 1e9, 3)
    (3.33, 0.526)
    """
    layers = _flops_by_layer(name)
    return 3 * sum(layers) - layers[0]


@cache
def _flops_by_layer(name: str) -> tuple[float, ...]:
    """The stem's first: of every output the channels and places of the kernel that it sees."""
    import jax
    from flax import nnx

    graphdef, state = nnx.split(nnx.eval_shape(lambda: network(name)))

    def forward(state: Any, images: jax.Array) -> jax.Array:
        model: Any = nnx.merge(graphdef, state)
        model.eval()
        return model(images)

    equations: Any = jax.make_jaxpr(forward)(state, jax.ShapeDtypeStruct((1, *SHAPE), "float32"))
    shapes = [
        (equation.outvars[0].aval.shape, equation.invars[1].aval.shape)
        for equation in equations.eqns
        if equation.primitive.name in ("conv_general_dilated", "dot_general")
    ]
    return tuple(2.0 * math.prod(output) * math.prod(kernel[:-1]) for output, kernel in shapes)


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(str(key.key) for key in path)
