"""A .npz of arrays for training and testing, as Keras's `mnist.npz` and MedMNIST have them.

Format: a zip of .npy files, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
Arrays of Python objects are pickles, which can run any program: they are refused.
"""

import re
import zipfile
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

from mnistjax.data.dataset import Dataset
from mnistjax.data.from_arrays import as_images, as_labels, make_dataset
from mnistjax.data.part_names import part_name
from mnistjax.data.plain import AGAIN, check_size, read_up_to
from mnistjax.errors import DataError

_MAX_HEADER = 10_000
_HEADERS: dict[tuple[int, int], Callable[..., Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_ROLES = {"x": "images", "y": "labels", "img": "images", "imgs": "images", "target": "labels"}


def npz_set(path: Path, start: bytes) -> str | None:
    """The file's own name if it is a zip of nothing but .npy files; its set's if of one alone."""
    if not start.startswith(b"PK\x03\x04"):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:
        # Damaged, so told by its name; reading it says how.
        return path.name.split(".")[0] if path.suffix == ".npz" else None
    if not names or not all(name.endswith(".npy") for name in names):
        return None
    one = _is_one_array(path.name, len(names))
    return part_name(path.name).key if one else path.name.split(".")[0]


def load_npz(key: str, files: list[Path]) -> Dataset:
    """Read x_train, y_train, x_test, y_test (or train_images, val_images, ...) of one .npz.

    Or one array of each file, as Kuzushiji-49 has them (`k49-train-imgs.npz`). Images are
    [n, height, width] or [n, height, width, 1 or 3], labels [n] or [n, 1]. Raises `DataError` for
    arrays that are missing, damaged, of objects, or larger than `plain.MAX_BYTES`.
    """
    where, arrays, left_out = ", ".join(map(str, files)), {}, []
    found = [place for path in files for place in _arrays_of(path)]
    names = [name for _, name, _ in found]
    for path, name, member in found:
        part, role = _role_of(name)
        if part in ("train", "val", "test", "") and role and (part, role) not in arrays:
            arrays[part, role] = read_member(path, member), f"{path}: {name}"
        else:
            left_out.append(name)
    if len(lone := [place for place in arrays if place[0] == "val"]) == 1:
        arrays.pop(lone[0])
        left_out += [name for name in names if _role_of(name) == lone[0]]
    parts = {}
    for part in dict.fromkeys(part for part, _ in arrays) or ("",):
        if not all((part, role) in arrays for role in ("images", "labels")):
            why = f"no images with their labels in it, but {', '.join(names) or 'nothing'}"
            raise DataError(where, why, fix="save x_train, y_train, x_test and y_test")
        images, labels = arrays[part, "images"], arrays[part, "labels"]
        parts[part] = as_images(*images), as_labels(*labels)
    if parts.keys() - {"val"} not in ({""}, {"train"}, {"train", "test"}):
        why = f"which are the training images of {', '.join(names)}?"
        raise DataError(where, why, fix="save x_train, y_train, x_test and y_test")
    origin = ", ".join(path.name for path in files)
    notice = f"{origin}: left out {', '.join(left_out)}" if left_out else ""
    return make_dataset(key, parts, origin=origin, notice=notice)


def _arrays_of(path: Path) -> Iterator[tuple[Path, str, zipfile.ZipInfo]]:
    """The arrays of a .npz by name; a single one may have that of its file."""
    there = members(path)
    for name, member in there.items():
        yield path, path.stem if _is_one_array(path.name, len(there)) else name, member


def _is_one_array(file: str, count: int) -> bool:
    part, role = _role_of(file)
    return count == 1 and bool(part and role)


def members(path: Path) -> dict[str, zipfile.ZipInfo]:
    """The arrays of a .npz by name; `DataError` if it is damaged or too large."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = archive.infolist()
    except Exception as error:  # a damaged directory makes zipfile raise nearly anything
        raise DataError(str(path), f"damaged zip file ({error})", fix=AGAIN) from error
    check_size(path, sum(item.file_size for item in found), packed=path.stat().st_size)
    return {item.filename.removesuffix(".npy"): item for item in found}


def read_member(path: Path, member: zipfile.ZipInfo) -> np.ndarray:
    """One array, of which no more is reserved than is there; its checksum is looked at."""
    what = f"{path}: {member.filename}"
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            shape, fortran, dtype = _read_header(file)  # type: ignore[arg-type]
            if dtype.hasobject:
                fix = "save numbers, which need no pickle"
                raise DataError(what, "holds Python objects, which can run any program", fix=fix)
            size = int(np.prod(shape, dtype=object)) * dtype.itemsize
            check_size(path, size)
            body = read_up_to(file, size + 1)  # type: ignore[arg-type]
        if len(body) != size:
            many = "more" if len(body) > size else f"{len(body):,}"
            raise ValueError(f"promises {size:,} bytes {shape}, holds {many}")
        return np.frombuffer(body, dtype).reshape(shape, order="F" if fortran else "C")
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a damaged header makes numpy and zipfile raise nearly anything
        raise DataError(what, f"damaged ({error})", fix=AGAIN) from error


def _read_header(file: BufferedIOBase) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of .npy")
    shape, fortran, dtype = _HEADERS[version](file, max_header_size=_MAX_HEADER)
    if any(size < 0 for size in shape) or not dtype.itemsize:
        raise ValueError(f"shape {shape} of {dtype}")
    return shape, fortran, dtype


def _role_of(name: str) -> tuple[str, str]:
    """Part and role of an array: ("train", "images") of `x_train`; an empty role if neither."""
    key, part = part_name(name)
    rest = re.sub(rf"{part}\w*?(?=_|$)" if part else "$^", "", name.lower())
    words = [_ROLES.get(word, word) for word in re.split(r"[^a-z]+", rest) if word]
    roles = {word if word.endswith("s") else f"{word}s" for word in words} & {"images", "labels"}
    return part, roles.pop() if len(roles) == 1 else ""
