"""Networks of the field that the job `nets` measures: their Flax modules, by name, and operations.

JAX and Flax are imported where they are needed: `--help` does without.
"""

import math
from collections.abc import Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from flax import nnx


class Network(NamedTuple):
    """What it is called, and the batch it is measured with."""

    called: str
    batch: int
    side: int
    every_pixel: bool = False
    """Whether each pixel has a label, or the image has one."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image."""
        return self.side, self.side, 3


NETWORKS = {
    "resnet": Network("ResNet-18", 64, 32),
    "mobilenet": Network("MobileNetV2", 64, 32),
    "unet": Network("U-Net", 16, 64, every_pixel=True),
    "convnext": Network("ConvNeXt-T", 16, 64),
}
WALKED = NETWORKS | {"resnet50": Network("ResNet-50", 64, 32)}
"""Whose convolutions the job `ops` measures one by one."""


def network(name: str) -> "nnx.Module":
    """The module with fresh parameters, for RGB images and 10 classes."""
    from flax import nnx

    from benchmarks.harness.convnext import ConvNext
    from benchmarks.harness.unet import UNet
    from mnistjax.models.mobilenet import MobileNetV2
    from mnistjax.models.resnet import ResNet

    made = {
        "resnet": ResNet,
        "resnet50": partial(ResNet, blocks=(3, 4, 6, 3), bottleneck=True),
        "mobilenet": MobileNetV2,
        "unet": UNet,
        "convnext": ConvNext,
    }
    return made[name](rngs=nnx.Rngs(0))


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
    """Of the convolutions and the dense layers, of one image; norms are not counted.

    >>> [round(forward_flops(name) / 1e9, 3) for name in NETWORKS]
    [1.111, 0.176, 1.155, 0.727]
    """
    return sum(flops_by_layer(name))


def step_flops(name: str) -> float:
    """A training step: forward, two gradients of each layer, none of the pixels.

    >>> [round(step_flops(name) / 1e9, 2) for name in NETWORKS]
    [3.33, 0.53, 3.46, 2.18]
    """
    layers = flops_by_layer(name)
    return 3 * sum(layers) - layers[0]


@cache
def flops_by_layer(name: str) -> tuple[float, ...]:
    """The stem's first: of every output the channels and places of the kernel that it sees."""
    sums = []
    for equation in products(name):
        (_, kernel), (output,) = equation.invars, equation.outvars
        between = equation.params.get("lhs_dilation", ())  # zeros, which no output sees
        seen = math.prod(kernel.aval.shape[:-1]) / math.prod(between)
        sums.append(2.0 * math.prod(output.aval.shape) * seen)
    return tuple(sums)


def products(name: str, batch: int = 1) -> list[Any]:
    """The equations of a network's convolutions and dense layers, forward, in their order."""
    import jax
    from flax import nnx

    graphdef, state = nnx.split(nnx.eval_shape(lambda: network(name)))

    def forward(state: Any, images: jax.Array) -> jax.Array:
        model: Any = nnx.merge(graphdef, state)
        model.eval()
        return model(images)

    images = jax.ShapeDtypeStruct((batch, *WALKED[name].shape), "float32")
    equations: Any = jax.make_jaxpr(forward)(state, images)
    wanted = "conv_general_dilated", "dot_general"
    return [found for found in equations.eqns if found.primitive.name in wanted]


def convolutions(name: str, batch: int) -> dict[str, dict[str, Any]]:
    """Every distinct convolution of a network, by a name such as `32x32 64 -> 128, 3x3 by 2`.

    A case of `benchmarks.peers.op_case`: the shapes, and how `lax.conv_general_dilated` is called.

    >>> cases = convolutions("unet", 2)
    >>> [*cases][:2], [name for name in cases if "transposed" in name][0]
    (['64x64 3 -> 32, 3x3', '64x64 32 -> 32, 3x3'], '8x8 256 -> 128, 2x2, transposed by 2')
    """
    cases = {}
    for equation in products(name, batch):
        if equation.primitive.name == "dot_general":
            continue
        (x, kernel), params = (of.aval.shape for of in equation.invars), equation.params
        (rows, columns, _, outputs), groups = kernel, params["feature_group_count"]
        words = f"{x[1]}x{x[2]} {x[3]} -> {outputs}, {rows}x{columns}"
        if params["window_strides"] != (1, 1):
            words += f" by {params['window_strides'][0]}"
        if params["lhs_dilation"] != (1, 1):
            words += f", transposed by {params['lhs_dilation'][0]}"
        if groups > 1:
            words += ", depthwise" if groups == x[3] else f", {groups} groups"
        asked = "window_strides", "padding", "lhs_dilation", "feature_group_count"
        how = {word: params[word] for word in asked}
        how["dimension_numbers"] = ("NHWC", "HWIO", "NHWC")
        cases[words] = {"op": "general", "x": x, "kernel": kernel, "how": how}
    return cases


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(str(key.key) for key in path)
