"""A .zip of any data set: unpacked into a temporary directory, within bounds, and read there."""

import errno
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from mnistjax.data.plain import AGAIN, DENSE_BYTES, DENSEST
from mnistjax.errors import DataError

MAX_MEMBERS = 500_000
MAX_UNPACKED = 2**33  # on disk


def is_zip(start: bytes) -> bool:
    """Whether a file that starts so is a zip archive."""
    return start.startswith(b"PK\x03\x04")


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A temporary directory with the files of the archive `path`, gone when the `with` ends.

    Nothing is written outside of it: a name that leads out is refused, and so are passwords, more
    than `MAX_MEMBERS` files, more than `MAX_UNPACKED` bytes or than pictures can be packed from.
    Raises `DataError` for these and for a damaged archive; checksums are looked at.
    """
    with tempfile.TemporaryDirectory(prefix="mnistjax-") as place:
        directory = Path(place, path.stem or "zip")
        directory.mkdir()
        try:
            with zipfile.ZipFile(path) as archive:
                for member in _checked(path, archive):
                    archive.extract(member, directory)
        except (DataError, MemoryError):
            raise
        except Exception as error:  # a damaged archive makes zipfile raise nearly anything
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DataError(str(path), f"damaged zip file ({error})", fix=AGAIN) from error
        yield directory


def _checked(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The members to unpack: no directories, nothing hidden, nothing that macOS adds."""
    everything = archive.infolist()
    size, packed = sum(item.file_size for item in everything), path.stat().st_size
    room = shutil.disk_usage(tempfile.gettempdir()).free
    most = min(MAX_UNPACKED, room, max(DENSEST * packed, DENSE_BYTES))
    if len(everything) > MAX_MEMBERS or size > most:
        why = f"{len(everything):,} files of {size:,} bytes in {packed:,} are too much to unpack"
        raise DataError(str(path), why, fix="unpack it yourself and pass the directory")
    for item in everything:
        parts = PurePosixPath(item.filename.replace("\\", "/")).parts
        if ".." in parts or "/" in parts[:1] or ":" in item.filename[1:2]:
            why = f"its file {ascii(item.filename)[:80]} leads out of it"
            raise DataError(str(path), why, fix=AGAIN)
        if item.flag_bits & 1:
            raise DataError(str(path), "needs a password", fix="unpack it and pass the directory")
    return [item for item in everything if not item.is_dir() and not _is_hidden(item.filename)]


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
