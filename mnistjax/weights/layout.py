"""Where Keras put each tensor: three layouts of the same weights, told apart by what they hold.

Legacy: attributes `layer_names` and, per layer, `weight_names` = `block1_conv1_W_1:0`, ...
Keras legacy: the same attributes with names that end in `kernel` and `bias`; a whole model saved
as .h5 has it under `/model_weights`, and a model within a model is one layer whose weights are
called `block1_conv1/kernel`. Keras 3 is in keras_3.py.
"""

import re
from typing import TYPE_CHECKING

from mnistjax.errors import WeightsError
from mnistjax.models.vgg16_table import Table, is_head
from mnistjax.weights.found import Found, Layout
from mnistjax.weights.hdf5 import has, names, printable, refuse, subgroup
from mnistjax.weights.keras_3 import find_keras_3

if TYPE_CHECKING:
    import h5py

_ROLES = {"W_1": "kernel", "b_1": "bias", "kernel": "kernel", "bias": "bias"}


def find_tensors(file: "h5py.File", wanted: Table | None = None) -> Found:
    """Detect the layout of an open file and map every tensor of VGG16 to its path.

    A tensor that is neither kernel nor bias keeps its own name as its role. Nothing but
    attributes and shapes is read, and only hard links are followed. Where layers have no names,
    they are looked for by the shapes of `wanted`, too. Raises `WeightsError` for a file in none of
    the layouts, for links that lead elsewhere, for two tensors of one name, and for a foreign
    layer between two of VGG16's.
    """
    if names(file, "layer_names") is not None:
        return _find_legacy(file, "", file)
    if has(file, "model_weights"):
        return _find_legacy(subgroup(file, "model_weights"), "model_weights/", file)
    if any(has(file, name) for name in ("layers", "vars", "_layer_checkpoint_dependencies")):
        return find_keras_3(file, wanted)
    fix = "pass weights of VGG16 saved by Keras: model.save_weights('x.weights.h5')"
    held = ", ".join(printable(name) for name in map(str, list(file)[:5])) or "nothing"
    raise WeightsError("HDF5 file", f"holds {held}: in none of Keras's layouts", fix=fix)


def _find_legacy(group: "h5py.Group", prefix: str, file: "h5py.File") -> Found:
    found, order = Found("keras legacy"), []
    layouts: set[Layout] = set()
    for saved in names(group, "layer_names") or []:
        for name in names(subgroup(group, saved), "weight_names") or []:
            legacy = re.fullmatch(re.escape(saved) + r"_(W_1|b_1):0", name)
            keras = re.fullmatch(r"(?:.*/)?(kernel|bias)(?::0)?", name)
            layouts |= {"legacy"} if legacy else {"keras legacy"} if keras else set()
            match = legacy or keras
            role = _ROLES[match[1]] if match else name
            layer = _owner(saved, name)
            found.add((layer, role), f"{prefix}{saved}/{name}")
            order.append(layer)
    if len(layouts) > 1:
        raise refuse(str(group.name), "weight names of two layouts")
    _unbroken(str(group.name), order)
    found.flipped = _is_theano(group) if "backend" in group.attrs else _is_theano(file)
    found.layout = layouts.pop() if layouts else "keras legacy"
    return found


def _owner(saved: str, weight: str) -> str:
    """The layer that a weight is of: within a nested model the part of its name before the last.

    >>> _owner("vgg16", "block1_conv1/kernel:0"), _owner("block1_conv1", "block1_conv1_2/bias")
    ('block1_conv1', 'block1_conv1')
    >>> _owner("dense", "sequential/dense/kernel")
    'dense'
    """
    parts = weight.split("/")
    if not is_head(saved) or len(parts) < 2:
        return saved
    # TensorFlow 1 numbered the names of a second model in one session: block1_conv1_1.
    numbered = re.fullmatch(r"(block\d+_conv\d+)(?:_\d+)?", parts[-2])
    inner = numbered[1] if numbered else parts[-2]
    return saved if is_head(inner) else inner


def _unbroken(where: str, order: list[str]) -> None:
    """`WeightsError` for a layer between VGG16's: what comes after it never saw its input."""
    own = [at for at, layer in enumerate(order) if re.match(r"block\d+_conv", layer)]
    between = [layer for layer in order[own[0] : own[-1]] if is_head(layer)] if own else []
    if between:
        why = f"{printable(between[0])} lies between VGG16's convolutions: another network"
        raise refuse(where, why)


def _is_theano(group: "h5py.Group") -> bool:
    """Whether Keras says that the kernels are those of Theano, which turns them by 180 degrees."""
    said = names(group, "backend") if "backend" in group.attrs else None
    return said is not None and [name.lower() for name in said] == ["theano"]
