"""Tensors out of a file, compared with the table of the architecture before one of them is read."""

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from mnistjax.errors import WeightsError
from mnistjax.models.vgg16_table import (
    CUTS,
    Shape,
    Table,
    Tensor,
    deepest_cut,
    differences,
    table,
    tensors,
)
from mnistjax.weights.hdf5 import array, check_array, printable
from mnistjax.weights.keras_zip import opened
from mnistjax.weights.layout import find_tensors
from mnistjax.weights.sniff import describe

Params = dict[str, dict[str, Float32[np.ndarray, "..."]]]
"""Layer -> {"kernel": float32 (HWIO), "bias": float32}."""


class Reading(NamedTuple):
    """What a file held: the tensors asked for, and all that a reader should know of them."""

    params: Params
    ignored: tuple[str, ...]
    """VGG16's own layers that are left aside."""
    layout: str
    notes: tuple[str, ...] = ()
    """A phrase for all else that was left out, changed or guessed."""
    pixels: str = "caffe"
    """How images must be preprocessed: of `preprocess.PIXELS`."""


def read_hdf5(path: Path, wanted: Table | None = None) -> Reading:
    """Read the tensors of `wanted` (default: as deep as the file goes) from a Keras file.

    Floats of 2, 4 or 8 bytes and bfloat16 become float32. Layers of others around VGG16's are left
    out and noted. Raises one `WeightsError` that lists every missing,
    extra, misshapen or non-finite tensor; the same error for a file that HDF5 cannot read.
    libhdf5 can crash or hang on a damaged file: see `sandbox.parse`.
    """
    import h5py

    try:
        with opened(path) as (source, size), h5py.File(source, "r", locking=False) as file:
            found = find_tensors(file, wanted)
            paths = found.paths
            if not paths:
                raise _stranger(path, found.head)
            wanted = wanted or table(deepest_cut(layer for layer, _ in paths) or CUTS[0])
            needed = {tensor: paths[tensor] for tensor in tensors(wanted) if tensor in paths}
            # An unwanted tensor is known by its name alone: its shape is never looked at.
            shapes: dict[Tensor, Shape] = dict.fromkeys(paths, ())
            datasets = {tensor: array(file, place) for tensor, place in needed.items()}
            shapes |= {tensor: tuple(of.shape or ()) for tensor, of in datasets.items()}
            ignored = compare(path, wanted, shapes)
            for tensor, shape in tensors(wanted).items():
                check_array(datasets[tensor], shape)
            _no_overlap(path, datasets.values(), size)
            arrays = {tensor: _float32(dataset[()]) for tensor, dataset in datasets.items()}
    except WeightsError as error:
        if str(path) in error.what:
            raise
        raise WeightsError(f"{path}: {error.what}", error.why, fix=error.fix) from error
    except Exception as error:  # a damaged file makes h5py raise nearly anything
        raise unreadable(path, error) from error
    if found.flipped:
        arrays = {tensor: _turned(values) for tensor, values in arrays.items()}
    return Reading(nest(path, arrays), ignored, found.layout, found.notes)


def compare(path: Path, wanted: Table, shapes: Mapping[Tensor, Shape]) -> tuple[str, ...]:
    """The layers in `shapes` that `wanted` leaves aside; `WeightsError` if it is not covered."""
    if problems := differences(wanted, shapes):
        covered = deepest_cut(layer for layer, _ in shapes)
        asked = deepest_cut(wanted)
        fix = "pass weights of VGG16 as Keras saves them"
        if covered and asked and covered < asked:
            fix = f"pass `cut={covered!r}`: that much of VGG16 is in the file"
        raise listing(path, problems, fix)
    return tuple(dict.fromkeys(layer for layer, _ in shapes if layer not in wanted))


def nest(path: Path, arrays: Mapping[Tensor, np.ndarray]) -> Params:
    """Arrays by (layer, role) as nested dicts; `WeightsError` lists those with NaN or infinity."""
    bad = [tensor for tensor, values in arrays.items() if not np.isfinite(values).all()]
    if bad:
        problems = [f"{layer}/{role} has values that are not finite" for layer, role in bad]
        raise listing(path, problems, "get the file again from its source")
    params: Params = {}
    for (layer, role), values in arrays.items():
        params.setdefault(layer, {})[role] = values
    return params


def listing(path: Path, problems: list[str], fix: str) -> WeightsError:
    """One error with every problem; of a flood, the first 40."""
    more = f"; and {len(problems) - 40} more" if len(problems) > 40 else ""
    return WeightsError(str(path), "; ".join(map(printable, problems[:40])) + more, fix=fix)


def unreadable(path: Path, error: Exception) -> WeightsError:
    """The error for a file that its own format's library refuses."""
    why = f"damaged or cut short ({printable(str(error))}): {describe(path)}"
    return WeightsError(str(path), why, fix="get the file again from its source")


def _stranger(path: Path, layers: Iterable[str]) -> WeightsError:
    held = ", ".join(map(printable, islice(layers, 5))) or "no layer with weights"
    why = f"none of VGG16's layers is in it, but {held}"
    return WeightsError(str(path), why, fix="pass weights of VGG16 as Keras saves them")


def _no_overlap(path: Path, datasets, size: int) -> None:
    # One flipped bit in an address makes a tensor of its neighbour's bytes.
    spans = sorted(
        (offset, offset + dataset.id.get_storage_size())
        for dataset in datasets
        if (offset := dataset.id.get_offset()) is not None
    )
    ends = [0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), size]
    if any(start < end for start, end in zip(starts, ends, strict=True)):
        why = "tensors overlap, or lie outside the file"
        raise WeightsError(str(path), why, fix="get the file again from its source")


def _turned(values: np.ndarray) -> np.ndarray:
    """Theano convolves where others correlate: a kernel by 180 degrees."""
    return np.ascontiguousarray(values[::-1, ::-1]) if values.ndim == 4 else values


def _float32(values: Any) -> np.ndarray:
    if values.dtype.kind == "V":  # bfloat16, of which HDF5 keeps the bytes: a float32's upper half
        halves = np.frombuffer(values.tobytes(), "<u2").reshape(values.shape)
        return (halves.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # becomes infinite, and is listed with its name
        return np.ascontiguousarray(values, np.float32)
