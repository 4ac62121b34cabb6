"""Any file as plain bytes: gzip is told by its first two bytes, and no more is read than asked."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnistjax.errors import DataError

AGAIN = "get the file again"
MAX_BYTES = 2**30  # the largest set at hand, EMNIST's `byclass`, has 547 MB of training images
# Pictures pack about 5:1, deflate reaches 1000:1: a small file that unpacks to much is a bomb.
DENSEST, DENSE_BYTES = 100, 2**25


@contextmanager
def open_plain(path: Path) -> Iterator[io.BufferedIOBase]:
    """`path` for reading, unpacked if its contents are gzip, whatever its name.

    Raises `DataError` for a file that may not be read or whose gzip stream is damaged, also from
    inside the `with`.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if zipped:
                with gzip.GzipFile(fileobj=file) as plain:
                    yield plain
            else:
                yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(str(path), f"damaged gzip file ({error})", fix=AGAIN) from error
    except OSError as error:
        fix = "check that the file exists and may be read"
        raise DataError(str(path), error.strerror or str(error), fix=fix) from error


@contextmanager
def open_text(path: Path) -> Iterator[io.TextIOWrapper]:
    """The same as UTF-8 text, with or without a byte order mark; other bytes are replaced."""
    with open_plain(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace")  # type: ignore[arg-type]
        yield text
        text.detach()


def read_up_to(file: io.BufferedIOBase, size: int) -> bytearray:
    """At most `size` bytes, piece by piece: `read(size)` would reserve them for an empty file."""
    body = bytearray()
    while piece := file.read(min(size - len(body), 2**20)):
        body += piece
    return body


def head(path: Path, size: int = 512) -> bytes:
    """The first plain bytes of `path`; fewer, or none, where it cannot be read."""
    try:
        with open_plain(path) as file:
            return bytes(read_up_to(file, size))
    except DataError:
        return b""


def check_size(path: Path, size: int, *, packed: int | None = None) -> None:
    """Raise `DataError` if `size` plain bytes are too many, or too many for `packed` bytes.

    >>> check_size(Path("a.npz"), 2**27, packed=2**20)
    Traceback (most recent call last):
    mnistjax.errors.DataError: a.npz: 1,048,576 bytes that unpack to 134,217,728 are no pictures. Fix: get the file again
    """  # noqa: E501
    if size > MAX_BYTES:
        why = f"promises {size:,} bytes, more than {MAX_BYTES:,}"
        raise DataError(str(path), why, fix="pass a smaller set")
    if packed is not None and size > max(DENSEST * packed, DENSE_BYTES):
        why = f"{packed:,} bytes that unpack to {size:,} are no pictures"
        raise DataError(str(path), why, fix=AGAIN)
