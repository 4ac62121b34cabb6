"""torchvision's VGG16 in safetensors: `features.N.weight`, channels first, other pixels.

Kernels are OIHW; between the convolutions N counts ReLUs and pools. Source: torchvision's
`vgg16(weights=VGG16_Weights.IMAGENET1K_V1)`, which wants RGB / 255 minus means, over deviations.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from mnistjax.errors import WeightsError
from mnistjax.models.vgg16_table import CUTS, Shape, Table, deepest_cut, table, tensors
from mnistjax.weights.read import Reading, compare, listing, nest

_NUMBERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_LAYERS: dict[int, str] = dict(zip(_NUMBERS, table(), strict=True))
_ROLES = {"weight": "kernel", "bias": "bias"}
_OTHERS = {8: "vgg11", 10: "vgg13", 13: "vgg16", 16: "vgg19"}  # by their convolutions
_KEY = re.compile(r"((?:.*\.)?features\.)(\d{1,4})\.([a-z_]+)")
_FLOATS = ("F64", "F32", "F16", "BF16")
_FIX = "pass torchvision's vgg16, or weights of VGG16 as Keras saves them"


def is_torchvision(keys: list[str]) -> bool:
    """Whether tensors are called as torchvision's VGG calls them, below any prefix.

    >>> is_torchvision(["module.features.0.weight"]), is_torchvision(["block1_conv1/kernel"])
    (True, False)
    """
    return any(_KEY.fullmatch(key) for key in keys)


def read_torchvision(path: Path, file: Any, wanted: Table | None) -> Reading:
    """The tensors of `wanted` from an open safetensors file, as float32 HWIO.

    Raises `WeightsError` for another network (by its name, if it is one of torchvision's VGGs), for
    weights that want other pixels, and as `read_hdf5` does.
    """
    keys = list(file.keys())
    shapes = {key: tuple(file.get_slice(key).get_shape()) for key in keys}
    _check_network(path, shapes)
    _check_pixels(path, file, keys)
    places, others = {}, {}
    for key in keys:
        match = _KEY.fullmatch(key)
        if match and int(match[2]) in _LAYERS:
            places[_LAYERS[int(match[2])], _ROLES.get(match[3], match[3])] = key
        else:
            others[key.rpartition(".")[0]] = None
    wanted = wanted or table(deepest_cut(layer for layer, _ in places) or CUTS[0])
    ignored = compare(path, wanted, {tensor: _hwio(shapes[key]) for tensor, key in places.items()})
    needed = [places[tensor] for tensor in tensors(wanted)]
    types = {key: file.get_slice(key).get_dtype() for key in needed}
    if wrong := [f"{key} is {of}, not a float" for key, of in types.items() if of not in _FLOATS]:
        raise listing(path, wrong, _FIX)
    arrays = {tensor: _read(file.get_tensor(places[tensor])) for tensor in tensors(wanted)}
    return Reading(nest(path, arrays), (*ignored, *others), "torchvision", pixels="torch")


def _check_network(path: Path, shapes: dict[str, Shape]) -> None:
    own = {key: match for key in shapes if (match := _KEY.fullmatch(key))}
    if len({match[1] for match in own.values()}) > 1:
        raise WeightsError(str(path), "features of two networks", fix=_FIX)
    kernels = [match for key, match in own.items() if len(shapes[key]) == 4]
    numbers = sorted(int(match[2]) for match in kernels if match[3] == "weight")
    normed = next((key for key, match in own.items() if match[3].startswith("running_")), "")
    if normed:
        name = f"{_OTHERS.get(len(numbers), 'a network')}_bn"
        why = f"torchvision's {name}: {normed} is batch normalisation, which this VGG16 has not"
        raise WeightsError(str(path), why, fix=_FIX)
    if tuple(numbers) != _NUMBERS[: len(numbers)]:
        name = _OTHERS.get(len(numbers), "")
        known = f"torchvision's {name}" if name and name != "vgg16" else "another network"
        raise WeightsError(str(path), f"{known}: convolutions at features.{numbers}", fix=_FIX)


def _check_pixels(path: Path, file: Any, keys: list[str]) -> None:
    """IMAGENET1K_FEATURES has the same names, but wants RGB 0..255; its classifier is all NaN."""
    bias = next((key for key in keys if key.endswith("classifier.0.bias")), None)
    if bias is None or file.get_slice(bias).get_dtype() not in _FLOATS:
        return
    if np.isnan(_read(file.get_tensor(bias))).all():
        why = "a classifier of NaN: torchvision's IMAGENET1K_FEATURES, which wants other pixels"
        raise WeightsError(str(path), why, fix="pass torchvision's IMAGENET1K_V1")


def _hwio(shape: Shape) -> Shape:
    return (*shape[2:], shape[1], shape[0]) if len(shape) == 4 else shape


def _read(values: np.ndarray) -> np.ndarray:
    if values.ndim == 4:
        values = values.transpose(2, 3, 1, 0)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, np.float32)
