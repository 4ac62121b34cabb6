"""Which files are pictures, judged by how they begin, and which are left out."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from mnistjax.errors import DataError

HEIC = "HEIF"  # Pillow's names of formats
# What Pillow would open as TIFF: the thumbnail in a camera's raw file.
RAW = {".dng", ".nef", ".cr2", ".arw", ".orf", ".rw2", ".pef", ".srw", ".nrw", ".3fr", ".erf"}
# Left by systems and programs, nobody's data.
LITTER = {"thumbs.db", "desktop.ini", "__macosx", "$recycle.bin"}
HEIC_SUFFIXES = {".heic", ".heif"}
SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif", ".jp2", ".j2k", ".pbm", ".pgm", ".ppm", ".pnm"),
}


def kind_of(head: bytes) -> str | None:
    """Pillow's name for the format of a file that begins with `head`, 32 bytes; None for no image.

    >>> kind_of(b"\\xff\\xd8\\xff\\xe0"), kind_of(b"RIFF....WEBPVP8 "), kind_of(b"#!/bin/sh")
    ('JPEG', 'WEBP', None)
    """
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in (b"avif", b"avis"):
            return "AVIF"
        heif = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
        return ("AVIF" if b"avif" in head[12:] else HEIC) if brand in heif else None
    if head[:4] == b"RIFF":
        return "WEBP" if head[8:12] == b"WEBP" else None
    starts = {
        b"\x89PNG\r\n\x1a\n": "PNG",
        b"\xff\xd8\xff": "JPEG",
        b"GIF8": "GIF",
        b"II*\0": "TIFF",
        b"MM\0*": "TIFF",
        b"BM": "BMP",
        b"\0\0\0\x0cjP  ": "JPEG2000",
        b"\xff\x4f\xff\x51": "JPEG2000",
    }
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "PPM"
    return next((kind for start, kind in starts.items() if head.startswith(start)), None)


def is_picture(path: Path) -> bool:
    """Whether `path` is to be read: it begins as a picture, or says by its name that it is one."""
    suffix = path.suffix.lower()
    if suffix in RAW:
        return False
    if suffix in HEIC_SUFFIXES:
        return reads_heic()
    if suffix in SUFFIXES:
        return (
            path.is_file()
        )  # a link may lead nowhere; if it is damaged, that is told when it is read
    try:
        with path.open("rb") as file:
            kind = kind_of(file.read(32))
    except OSError:
        return False
    return kind is not None and not (kind in ("BMP", "PPM") and suffix)  # short beginnings


def reads_heic() -> bool:
    """Whether the extra that reads HEIC is installed."""
    try:
        return find_spec("pillow_heif") is not None
    except ValueError:  # taken away while testing
        return False


def files_below(directory: Path) -> Iterator[Path]:
    """Every file in `directory` and below, sorted; what is hidden is left out, links are followed.

    A link that leads back to a directory above it is not followed again. Raises `DataError` for a
    directory that may not be looked into.
    """
    seen: set[str] = set()

    def refuse(error: OSError) -> None:
        fix = "let it be read, or take it away"
        raise DataError(str(error.filename), error.strerror or str(error), fix=fix) from error

    for place, directories, files in os.walk(directory, followlinks=True, onerror=refuse):
        if (real := os.path.realpath(place)) in seen:
            directories.clear()
            continue
        seen.add(real)
        directories[:] = sorted(name for name in directories if not hidden(name))
        yield from (Path(place, name) for name in sorted(files) if not hidden(name))


def subdirectories(directory: Path) -> list[Path]:
    """Those right in `directory`, sorted, without hidden ones; none if there is no such one."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if path.is_dir() and not hidden(path.name))


def hidden(name: str) -> bool:
    """Whether nobody sees `name` in a listing, or nobody has put it there."""
    return name.startswith(".") or name.lower() in LITTER
