"""Converted weights: safetensors, which cannot hold code, whole under its name or not there."""

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mnistjax.errors import StorageError, WeightsError
from mnistjax.models.vgg16_table import CUTS, Table, deepest_cut, table, tensors
from mnistjax.weights.hdf5 import printable
from mnistjax.weights.pixels import PIXELS
from mnistjax.weights.read import Params, Reading, compare, listing, nest, unreadable
from mnistjax.weights.torchvision import is_torchvision, read_torchvision

SCHEMA = "mnistjax-vgg16-1"
LAYOUT = "mnistjax safetensors"


def write_safetensors(
    path: Path, params: Params, *, source_sha256: str, origin: str, pixels: str = "caffe"
) -> None:
    """Write `params` with the digest and a phrase of where they came from, and their preprocessing.

    The file appears under its name complete and synced, or not at all. Raises `StorageError`
    when it cannot be written.
    """
    import safetensors.numpy

    flat = {f"{layer}/{role}": array for layer, of in params.items() for role, array in of.items()}
    metadata = {"schema": SCHEMA, "source_sha256": source_sha256, "origin": origin}
    metadata |= {"preprocessing": pixels}
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        part = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(safetensors.numpy.save(flat, metadata))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        fix = "free some space, or pass another `path`"
        raise StorageError(f"write {path}", error.strerror or str(error), fix=fix) from error
    finally:
        if part is not None:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def read_safetensors(path: Path, wanted: Table | None = None) -> tuple[Reading, Mapping[str, str]]:
    """Read back what `write_safetensors` wrote, or torchvision's VGG16, and its metadata.

    As strict as `read_hdf5`: `WeightsError` lists every missing, extra, misshapen or non-finite
    tensor, before any is read; so does another schema or a type other than float32.
    """
    import safetensors

    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if "schema" not in metadata and is_torchvision(list(file.keys())):
                return read_torchvision(path, file, wanted), metadata
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            shapes = {_tensor(key): tuple(of.get_shape()) for key, of in slices.items()}
            wanted = wanted or table(deepest_cut(layer for layer, _ in shapes) or CUTS[0])
            if metadata.get("schema") != SCHEMA:
                schema = metadata.get("schema", "none")
                fix = "convert it: python -m mnistjax.weights convert FILE.h5"
                raise WeightsError(str(path), f"schema {schema[:40]}, not {SCHEMA}", fix=fix)
            ignored = compare(path, wanted, shapes)
            types = {key: of.get_dtype() for key, of in slices.items()}
            if wrong := [f"{key} is {of}, not F32" for key, of in types.items() if of != "F32"]:
                raise listing(path, wrong, "convert it again")
            arrays = {key: file.get_tensor("/".join(key)) for key in tensors(wanted)}
    except WeightsError:
        raise
    except Exception as error:
        raise unreadable(path, error) from error
    pixels = metadata.get("preprocessing", "caffe")
    if pixels not in PIXELS:
        why = f"preprocessing {printable(pixels)}, not one of {', '.join(PIXELS)}"
        raise WeightsError(str(path), why, fix="convert it again")
    return Reading(nest(path, arrays), ignored, LAYOUT, pixels=pixels), metadata


def _tensor(key: str) -> tuple[str, str]:
    layer, _, role = key.rpartition("/")
    return layer, role
