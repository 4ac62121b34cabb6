"""Where Keras put each tensor: three layouts of the same weights, told apart by what they hold.

Legacy: attributes `layer_names` and, per layer, `weight_names` = `block1_conv1_W_1:0`, ...
Keras legacy: the same attributes with names that end in `kernel` and `bias`; a whole model saved
as .h5 has it under `/model_weights`. Keras 3: `/layers/conv2d_7/vars/0`, with the layer's name in
an attribute of `vars`; the groups sort as conv2d, conv2d_1, conv2d_10, and many layers share one
shape, so that whoever goes by their order gets wrong weights without an error.
"""

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from mnistjax.errors import WeightsError
from mnistjax.models.vgg16_table import Tensor
from mnistjax.weights.hdf5 import has, names, printable, refuse, subgroup

if TYPE_CHECKING:
    import h5py

Layout = Literal["legacy", "keras legacy", "keras 3"]
_ROLES = {"W_1": "kernel", "b_1": "bias", "kernel": "kernel", "bias": "bias"}


class Found(NamedTuple):
    """A file's layout and where in it each tensor lies, by (layer, role)."""

    layout: Layout
    paths: dict[Tensor, str]


def find_tensors(file: "h5py.File") -> Found:
    """Detect the layout of an open file and map every tensor to its path.

    A tensor that is neither kernel nor bias keeps its own name as its role. Nothing but
    attributes is read, and only hard links are followed. Raises `WeightsError` for a file in none
    of the layouts, for links that lead elsewhere, and for two tensors of one name.
    """
    if names(file, "layer_names") is not None:
        return _find_legacy(file, "")
    if has(file, "model_weights"):
        return _find_legacy(subgroup(file, "model_weights"), "model_weights/")
    if has(file, "layers"):
        return _find_keras_3(subgroup(file, "layers"))
    fix = "pass weights of VGG16 saved by Keras: model.save_weights('x.weights.h5')"
    held = ", ".join(printable(name) for name in map(str, list(file)[:5])) or "nothing"
    raise WeightsError("HDF5 file", f"holds {held}: in none of Keras's layouts", fix=fix)


def _find_legacy(group: "h5py.Group", prefix: str) -> Found:
    paths: dict[Tensor, str] = {}
    layouts: set[Layout] = set()
    for layer in names(group, "layer_names") or []:
        for name in names(subgroup(group, layer), "weight_names") or []:
            legacy = re.fullmatch(re.escape(layer) + r"_(W_1|b_1):0", name)
            keras = re.fullmatch(r"(?:.*/)?(kernel|bias)(?::0)?", name)
            layouts |= {"legacy"} if legacy else {"keras legacy"} if keras else set()
            match = legacy or keras
            role = _ROLES[match[1]] if match else name
            _add(paths, (layer, role), f"{prefix}{layer}/{name}")
    if len(layouts) > 1:
        raise refuse(str(group.name), "weight names of two layouts")
    return Found(layouts.pop() if layouts else "keras legacy", paths)


def _find_keras_3(group: "h5py.Group") -> Found:
    paths: dict[Tensor, str] = {}
    for key in map(str, group):
        layer_group = subgroup(group, key)
        if not has(layer_group, "vars"):
            continue
        variables = subgroup(layer_group, "vars")
        if len(variables) == 0:
            continue
        own_name = names(variables, "name")
        if own_name is None or len(own_name) != 1:
            fix = "save it again with Keras 3.6 or newer, which writes the names of layers"
            raise WeightsError(f"HDF5 object {printable(key)}", "has no name", fix=fix)
        for index in map(str, variables):
            role = {"0": "kernel", "1": "bias"}.get(index, index)
            _add(paths, (own_name[0], role), f"layers/{key}/vars/{index}")
    return Found("keras 3", paths)


def _add(paths: dict[Tensor, str], tensor: Tensor, path: str) -> None:
    if tensor in paths:
        raise refuse(path, f"a second {printable('/'.join(tensor))}")
    paths[tensor] = path
