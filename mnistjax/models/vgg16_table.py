"""VGG16 as a table: which layers there are, under Keras's names, and the shape of every tensor."""

import re
from collections.abc import Iterable, Mapping

from mnistjax.errors import UsageError

Shape = tuple[int, ...]
Table = dict[str, dict[str, Shape]]
"""Layer -> {"kernel": shape (HWIO), "bias": shape}, in the order of the network."""
Tensor = tuple[str, str]
"""(layer, "kernel" or "bias")."""

_BLOCKS = {
    "block1": (2, 64),
    "block2": (2, 128),
    "block3": (3, 256),
    "block4": (3, 512),
    "block5": (3, 512),
}  # convolutions in the block, and their channels
BLOCKS = tuple(_BLOCKS)
CUTS = BLOCKS[2:]
"""Where a network may end: files of fewer blocks are not known."""
WITHOUT_TENSORS = (*(f"{block}_pool" for block in _BLOCKS), "flatten")
TOP = ("fc1", "fc2", "predictions")


def table(cut: str = "block5") -> Table:
    """The convolutions from the image to the pooling of block `cut`.

    Raises `UsageError` if `cut` is none of `CUTS`.

    >>> table("block3")["block3_conv1"]
    {'kernel': (3, 3, 128, 256), 'bias': (256,)}
    >>> [len(table(cut)) for cut in CUTS]
    [7, 10, 13]
    """
    UsageError.unless_in("`cut`", cut, CUTS)
    shapes: Table = {}
    channels = 3
    for block, (convolutions, filters) in _BLOCKS.items():
        for number in range(1, convolutions + 1):
            kernel = (3, 3, channels, filters)
            shapes[f"{block}_conv{number}"] = {"kernel": kernel, "bias": (filters,)}
            channels = filters
        if block == cut:
            break
    return shapes


KNOWN_LAYERS = frozenset((*table(), *WITHOUT_TENSORS, *TOP))
"""Every layer of the full network: one that a cut leaves out is ignored, any other is an error."""


def is_head(layer: str) -> bool:
    """Whether a layer belongs to what others put on VGG16: its name is none that a VGG has.

    >>> is_head("dense_1"), is_head("block3_conv1"), is_head("block3_conv4"), is_head("fc1")
    (True, False, False, False)
    """
    return layer not in KNOWN_LAYERS and not re.match(r"block\d+_", layer)


def deepest_cut(layers: Iterable[str]) -> str | None:
    """The last of `CUTS` for which `layers` has everything, or None.

    >>> deepest_cut([*table("block3"), "block4_conv1"])
    'block3'
    """
    have = set(layers)
    return next((cut for cut in reversed(CUTS) if have.issuperset(table(cut))), None)


def tensors(shapes: Table) -> dict[Tensor, Shape]:
    """`shapes` flat: (layer, role) -> shape.

    >>> tensors(table())["block1_conv1", "bias"]
    (64,)
    """
    return {(layer, role): shape for layer, of in shapes.items() for role, shape in of.items()}


def differences(wanted: Table, found: Mapping[Tensor, Shape]) -> list[str]:
    """What keeps `found` from being `wanted`, a phrase each: missing, extra, wrong shape.

    Layers of the network that `wanted` does not ask for are no difference.

    >>> differences({"a": {"bias": (2,)}}, {("a", "bias"): (3,), ("b", "bias"): (1,)})
    ['a/bias is (3,), not (2,)', 'b/bias is not of VGG16']
    """
    flat = tensors(wanted)
    layers = {layer for layer, _ in found}
    missing = [f"{layer} is missing" for layer in wanted if layer not in layers]
    missing += [
        f"{layer}/{role} is missing"
        for layer, role in flat
        if layer in layers and (layer, role) not in found
    ]
    wrong = [
        f"{layer}/{role} is {found[layer, role]}, not {shape}"
        for (layer, role), shape in flat.items()
        if found.get((layer, role), shape) != shape
    ]
    extra = [
        f"{layer}/{role} is not of VGG16"
        for layer, role in found
        if (layer, role) not in flat and (layer in wanted or layer not in KNOWN_LAYERS)
    ]
    return missing + wrong + extra
