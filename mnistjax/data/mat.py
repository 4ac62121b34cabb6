"""MATLAB's .mat files of version 5: arrays of numbers, read within bounds.

Format: MAT-File Format, The MathWorks, chapter 1. Our own reader, since scipy's reserves what a
tag says before it reads: here a tag is compared with the bytes that are there. Version 7.3 is HDF5.
"""

import zlib
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mnistjax.data.plain import AGAIN, check_size, open_plain, read_up_to
from mnistjax.errors import DataError

_MATRIX, _COMPRESSED = 14, 15
_TYPES = dict(
    enumerate(["i1", "u1", "i2", "u2", "i4", "u4", "f4", "-", "f8", "-", "-", "i8", "u8"], start=1)
)
_NUMBERS = range(6, 16)  # classes: double, single, then integers of 8 to 64 bits
_COMPLEX = 0x0800
HEADER = 128


class Element(NamedTuple):
    """A tag's type and the bytes it stands for."""

    type: int
    body: memoryview


def is_mat5(start: bytes) -> bool:
    """Whether a file that starts so is a .mat of version 5."""
    return len(start) >= HEADER and start[124:128] in (b"\x00\x01IM", b"\x01\x00MI")


def read_mat(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """The real numeric arrays among `names`, in MATLAB's column order as numpy has it.

    Raises `DataError` for a damaged file, more than `plain.MAX_BYTES`, and, with what there is
    instead, a file without them.
    """
    check_size(path, path.stat().st_size)
    with open_plain(path) as file:
        data = memoryview(read_up_to(file, path.stat().st_size + 1))
    order = "<" if bytes(data[126:128]) == b"IM" else ">"
    found, seen = {}, []
    try:
        for kind, body in _elements(data[HEADER:], order):
            if kind == _COMPRESSED:
                kind, body = next(_elements(_inflate(path, body), order), Element(0, body))
            if kind != _MATRIX:
                continue
            name, array = _matrix(body, order, names)
            seen.append(name)
            if array is not None:
                found[name] = array
    except (ValueError, zlib.error) as error:
        raise DataError(str(path), f"damaged .mat file ({error})", fix=AGAIN) from error
    if missing := [name for name in names if name not in found]:
        there = ", ".join(seen) or "nothing"
        why = f"no array of numbers {' and '.join(missing)} in it, but {there}"
        raise DataError(str(path), why, fix="pass SVHN's cropped digits, train_32x32.mat")
    return found


def _elements(data: memoryview, order: str) -> Iterator[Element]:
    """The elements that `data` is a row of; `ValueError` where one is longer than what is left."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise ValueError("cut within a tag")
        kind, size = (int(word) for word in np.frombuffer(data[at : at + 8], f"{order}u4"))
        start = at + 8
        if kind >> 16:  # a small element: type and size share a word, its bytes follow at once
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
        end = at + 8 if start == at + 4 else start + size
        if start + size > min(end, len(data)):
            raise ValueError(
                f"an element of {size:,} bytes, of which {len(data) - start:,} are there"
            )
        yield Element(kind, data[start : start + size])
        at = end if kind == _COMPRESSED else -(-end // 8) * 8


def _inflate(path: Path, body: memoryview) -> memoryview:
    unpacker, plain = zlib.decompressobj(), bytearray()
    for at in range(0, len(body), 2**14):  # 16 kB are at most 17 MB
        plain += unpacker.decompress(body[at : at + 2**14])
        check_size(path, len(plain), packed=len(body))
    if not unpacker.eof:
        raise ValueError("a compressed element is cut short")
    return memoryview(plain)


def _matrix(body: memoryview, order: str, names: Collection[str]) -> tuple[str, np.ndarray | None]:
    """Name of a matrix, and its values if it is wanted and of real numbers."""
    parts = _elements(body, order)
    flags, dims, name = (part.body for part in islice(parts, 3))
    called = bytes(name).decode("ascii", "replace")
    flag = int(np.frombuffer(flags[:4], f"{order}u4")[0])
    if called not in names or flag & 0xFF not in _NUMBERS or flag & _COMPLEX:
        return called if called.isprintable() else ascii(called), None
    values = next(parts, Element(0, body[:0]))
    if _TYPES.get(values.type, "-") == "-":
        raise ValueError(f"values of type {values.type}")
    array = np.frombuffer(values.body, order + _TYPES[values.type])
    shape = [int(size) for size in np.frombuffer(dims, f"{order}i4")]
    if min(shape, default=-1) < 0 or int(np.prod(shape, dtype=object)) != array.size:
        raise ValueError(f"{called} has {array.size:,} values for shape {tuple(shape)}")
    return called, array.astype(array.dtype.newbyteorder("="), copy=False).reshape(shape, order="F")
