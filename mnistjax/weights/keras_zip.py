"""A .keras file is a zip archive: its weights are read where they lie, the rest is not looked at.

Keras stores them uncompressed, so that HDF5 reads straight from the archive. One that was packed
anew with compression is unpacked in memory, up to a bound. `config.json` may carry code, which
Keras runs on loading: nothing here opens it.
"""

import io
import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mnistjax.errors import WeightsError

MEMBER = "model.weights.h5"
_MOST_UNPACKED = 2**28  # bytes: VGG16's convolutions are 59 MB
_CHUNK = 2**20


@contextmanager
def opened(path: Path) -> Iterator[tuple[Path | io.IOBase, int]]:
    """What HDF5 is to open, and its bytes: `path` itself, or the weights in a .keras archive.

    Raises `WeightsError` for an archive without one `model.weights.h5`, and `BadZipFile` for one
    that is damaged: the member's checksum is verified.
    """
    if path.suffix.lower() != ".keras":
        yield path, path.stat().st_size
        return
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        member = _member(path, archive)
        if member.compress_type == zipfile.ZIP_STORED:
            with archive.open(member) as whole:
                while whole.read(_CHUNK):
                    pass  # to the end, where zipfile compares the checksum
            yield _Slice(file, _start(file, member), member.file_size), member.file_size
        else:
            with archive.open(member) as packed:
                data = packed.read(_MOST_UNPACKED + 1)
            if len(data) > _MOST_UNPACKED:
                fix = f"unpack it and pass its {MEMBER}"
                raise WeightsError(str(path), "compressed, and too large to unpack here", fix=fix)
            yield io.BytesIO(data), len(data)


def _member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    names = archive.namelist()
    if names.count(MEMBER) == 1:
        return archive.getinfo(MEMBER)
    why = f"{names.count(MEMBER)} files {MEMBER} in the archive"
    if "model.weights.json" in names:
        why = "its weights are cut into several files"
    fix = "save it again as one file with model.save_weights('x.weights.h5')"
    raise WeightsError(str(path), why, fix=fix)


def _start(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin: after its own header, whose name and extra field vary."""
    file.seek(member.header_offset + 26)
    name, extra = struct.unpack("<HH", file.read(4))
    return member.header_offset + 30 + name + extra


class _Slice(io.RawIOBase):
    """The part of a file from `start`, `size` bytes long, as a file; only to be read."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer) -> int:  # type: ignore[override]
        count = max(0, min(len(buffer), self._size - self._at))
        self._file.seek(self._start + self._at)
        data = self._file.read(count)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
