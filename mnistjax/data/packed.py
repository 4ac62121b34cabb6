"""A .zip or .tar(.gz) of any data set: unpacked into a temporary directory and read there."""

import errno
import os
import shutil
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mnistjax.data.plain import AGAIN, DENSE_BYTES, DENSEST, head
from mnistjax.errors import DataError

MAX_MEMBERS = 500_000
MAX_UNPACKED = 2**33  # on disk


class Member(NamedTuple):
    """One entry of an archive, and how it is written into a directory."""

    name: str
    size: int
    write: Callable[[Path], object] | None
    """None for what is no file."""


def is_packed(path: Path) -> bool:
    """Whether `path` is a zip or tar archive, the latter perhaps in gzip."""
    start = head(path)
    return start.startswith(b"PK\x03\x04") or start[257:262] == b"ustar"


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A temporary directory with the files of the archive `path`, gone when the `with` ends.

    The files keep their times, by which pictures are found again in the cache. Nothing is written
    outside of it: a name that leads out is refused, and so are passwords, more than `MAX_MEMBERS`
    files, more than `MAX_UNPACKED` bytes or than pictures can be packed from. Raises `DataError`
    for these and for a damaged archive; a zip's checksums are looked at.
    """
    with tempfile.TemporaryDirectory(prefix="mnistjax-") as place:
        directory = Path(place, path.name.partition(".")[0] or "archive")
        directory.mkdir()
        try:
            for member in _checked(path, _members(path)):
                if member.write and not _is_hidden(member.name):
                    member.write(directory)
        except (DataError, MemoryError):
            raise
        except Exception as error:  # a damaged archive makes zipfile and tarfile raise anything
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            kind = "zip" if zipfile.is_zipfile(path) else "tar"
            raise DataError(str(path), f"damaged {kind} file ({error})", fix=AGAIN) from error
        yield directory


def _members(path: Path) -> Iterator[Member]:
    if head(path, 2) == b"PK":
        with zipfile.ZipFile(path) as archive:
            for item in archive.infolist():
                if item.flag_bits & 1:
                    fix = "unpack it and pass the directory"
                    raise DataError(str(path), "needs a password", fix=fix)
                write = None if item.is_dir() else _zip_writer(archive, item)
                yield Member(item.filename, item.file_size, write)
    else:
        with tarfile.open(path, "r|*") as archive:  # in one pass: gzip cannot go back
            for item in archive:
                yield Member(item.name, item.size, _tar_writer(archive, item))


def _zip_writer(archive: zipfile.ZipFile, item: zipfile.ZipInfo) -> Callable[[Path], object]:
    def write(directory: Path) -> None:
        written = archive.extract(item, directory)
        when = time.mktime((*item.date_time, 0, 0, -1))
        os.utime(written, (when, when))

    return write


def _tar_writer(archive: tarfile.TarFile, item: tarfile.TarInfo) -> Callable[[Path], object] | None:
    if not (item.isfile() or item.issym() or item.islnk()):
        return None
    return lambda directory: archive.extract(item, directory, filter="data")


def _checked(path: Path, members: Iterator[Member]) -> Iterator[Member]:
    packed, size = path.stat().st_size, 0
    room = shutil.disk_usage(tempfile.gettempdir()).free
    most = min(MAX_UNPACKED, room, max(DENSEST * packed, DENSE_BYTES))
    for count, member in enumerate(members, 1):
        size += member.size
        if count > MAX_MEMBERS or size > most:
            why = f"{count:,} files of {size:,} bytes in {packed:,} are too much to unpack"
            raise DataError(str(path), why, fix="unpack it yourself and pass the directory")
        parts = PurePosixPath(member.name.replace("\\", "/")).parts
        if ".." in parts or "/" in parts[:1] or ":" in member.name[1:2]:
            why = f"its file {ascii(member.name)[:80]} leads out of it"
            raise DataError(str(path), why, fix=AGAIN)
        yield member


def _is_hidden(name: str) -> bool:
    return any(
        part.startswith((".", "__MACOSX")) and part != "." for part in PurePosixPath(name).parts
    )
