"""Keras 3's layout: `/layers/conv2d_7/vars/0`, models within models one below the other.

The layer's name is an attribute of `vars` since Keras 3.6. The groups sort as conv2d, conv2d_1,
conv2d_10, and many layers share one shape, so that whoever goes by that order gets wrong weights
without an error. Keras 3.0 to 3.5 wrote no names: there the number after the class is the order of
the layers in their model, and is believed only where the shapes are VGG16's and nothing else fits.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from mnistjax.errors import WeightsError
from mnistjax.models.vgg16_table import CUTS, Shape, Table, table
from mnistjax.weights.found import Found
from mnistjax.weights.hdf5 import array, follow, has, names, refuse, subgroup

if TYPE_CHECKING:
    import h5py

_MOST_THINGS, _DEEPEST = 10_000, 30


class _Layer(NamedTuple):
    path: str
    """Of the group that has `vars`, from the root."""
    name: str | None
    variables: list[str]


def find_keras_3(file: "h5py.File", wanted: Table | None) -> Found:
    """`find_tensors` for a file that Keras 3 wrote; the optimiser is left out like a layer."""
    found = Found("keras 3")
    nameless: list[_Layer] = []
    for layer in _layers(file):
        if (name := layer.name) is None:
            nameless.append(layer)
            continue
        for index in layer.variables:
            found.add((name, _role(index)), f"{layer.path}/vars/{index}")
    if nameless:
        known = {} if found.paths else _by_order(file, nameless, wanted)
        found.by_order = bool(known)
        for layer in nameless:
            told = known.get(layer.path, layer.path.rpartition("layers/")[2])
            for index in layer.variables:
                found.add((told, _role(index)), f"{layer.path}/vars/{index}")
    return found


def _role(index: str) -> str:
    return {"0": "kernel", "1": "bias"}.get(index, index)


def _layers(file: "h5py.File") -> Iterator[_Layer]:
    """Every group with variables, wherever it lies."""
    import h5py

    waiting, met = [""], {file["/"]}
    while waiting:
        path = waiting.pop(0)
        group = subgroup(file, path) if path else file
        for key in map(str, group):
            below = f"{path}/{key}" if path else key
            inner = follow(file, below)
            if isinstance(inner, h5py.Group) and inner in met:  # hard links can make circles
                raise refuse(below, "is a group that has another place, too")
            met.add(inner)
            if len(met) > _MOST_THINGS or below.count("/") > _DEEPEST:
                raise refuse(below, "more groups within groups than a network has")
            if not isinstance(inner, h5py.Group):
                continue
            if key != "vars":
                waiting.append(below)
            elif len(inner) and path:
                own = names(inner, "name")
                if own is not None and len(own) != 1:
                    raise refuse(below, "has more than one name")
                yield _Layer(path, own[0] if own else None, list(map(str, inner)))


def _by_order(file: "h5py.File", nameless: list[_Layer], wanted: Table | None) -> dict[str, str]:
    """VGG16's names of those layers that are its convolutions, by path."""
    models: dict[str, dict[int, str]] = {}
    for layer in nameless:
        model, _, key = layer.path.rpartition("/")
        if number := re.fullmatch(r"conv2d(?:_(\d{1,4}))?", key):
            models.setdefault(model, {})[int(number[1] or 0)] = layer.path
    fits = []
    for numbered in models.values():
        paths = [numbered[number] for number in sorted(numbered)]
        shapes = [_kernel_shape(file, path) for path in paths]
        if fitting := _run(shapes, wanted):
            first, layers = fitting
            fits.append(dict(zip(paths[first:], layers, strict=False)))
    if len(fits) != 1:
        what = "two models" if fits else "no convolutions"
        what += " of VGG16's shapes in order"
        why = f"its layers have no names, and {what}"
        fix = "save it again with Keras 3.6 or newer, which writes the names of layers"
        raise WeightsError("HDF5 file", why, fix=fix)
    return fits[0]


def _kernel_shape(file: "h5py.File", path: str) -> Shape:
    if not has(subgroup(file, f"{path}/vars"), "0"):
        return ()
    return tuple(array(file, f"{path}/vars/0").shape or ())


def _run(shapes: list[Shape], wanted: Table | None) -> tuple[int, list[str]] | None:
    """Where in `shapes` VGG16 begins, and its layers; None if it is not there, or twice.

    All 13 may have strangers around them; fewer must be alone, since what follows could be the
    fourth convolution of VGG19's third block.
    """
    whole = _kernels(table())
    starts = [
        at for at in range(len(shapes)) if shapes[at : at + len(whole)] == list(whole.values())
    ]
    if len(starts) == 1:
        return starts[0], list(whole)
    for fewer in (*map(table, CUTS), wanted or {}):
        if shapes == list(_kernels(fewer).values()):
            return 0, list(fewer)
    return None


def _kernels(layers: Table) -> dict[str, Shape]:
    return {layer: of["kernel"] for layer, of in layers.items() if "kernel" in of}
