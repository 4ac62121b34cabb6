"""The picture files that somebody names, one by one or by the folder they lie in."""

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from mnistjax.data.folder_layout import printable
from mnistjax.data.picture_files import files_below, is_picture
from mnistjax.data.plain import MAX_BYTES
from mnistjax.errors import DataError

STDIN = Path("-")


class Found(NamedTuple):
    """Picture files in order, and how many others lie beside them in folders."""

    files: list[Path]
    others: int


def find_pictures(places: Sequence[Path]) -> Found:
    """Each file of `places`, and of each folder all pictures below it, sorted; "-" is stdin.

    Raises `DataError` for what is not there, and for a folder without a picture.

    >>> find_pictures([Path("nowhere.png")])
    Traceback (most recent call last):
    mnistjax.errors.DataError: nowhere.png: no such file or folder. Fix: pass pictures or folders of them
    """  # noqa: E501
    files: list[Path] = []
    others = 0
    for place in places:
        if not place.is_dir():
            if not place.exists() and place != STDIN:
                fix = "pass pictures or folders of them"
                raise DataError(shown(place), "no such file or folder", fix=fix)
            files.append(place)
            continue
        below = list(files_below(place))
        pictures = [path for path in below if is_picture(path)]
        if not pictures:
            why = f"holds no picture, {len(below):,} other files" if below else "is empty"
            raise DataError(shown(place), why, fix="pass pictures or folders of them")
        files += pictures
        others += len(below) - len(pictures)
    return Found(files, others)


def content(file: Path) -> Path | bytes:
    """What is read for `file`: itself, or the bytes that came to stdin."""
    return _stdin() if file == STDIN and not file.exists() else file


@cache
def _stdin() -> bytes:
    return sys.stdin.buffer.read(MAX_BYTES)


def shown(path: Path) -> str:
    """A path as text that can be printed and written, whatever its bytes."""
    return "/".join(part if part == "/" else printable(part) for part in path.parts).replace(
        "//", "/", 1
    )


class LeftOut(NamedTuple):
    """A file without an answer: its name to be shown, why, and what mends it."""

    name: str
    why: str
    fix: str


def refuse(left_out: Sequence[LeftOut]) -> None:
    """Raise `DataError` with all that is left out, by name, if anything is.

    >>> refuse([LeftOut("a.png", "is empty", "draw"), LeftOut("b.png", "is none", "save it anew")])
    Traceback (most recent call last):
    mnistjax.errors.DataError: 2 files have no answer: a.png (is empty), b.png (is none). Fix: replace or remove what is named, or pass `skip_unreadable=True`
    """  # noqa: E501
    fixes = {one.fix for one in left_out}
    fix = fixes.pop() if len(fixes) == 1 else "replace or remove what is named"
    fix = f"{fix}, or pass `skip_unreadable=True`"
    if len(left_out) == 1:
        raise DataError(left_out[0].name, left_out[0].why, fix=fix)
    if left_out:
        raise DataError(f"{len(left_out):,} files have no answer", named(left_out), fix=fix)


def named(left_out: Sequence[LeftOut], most: int = 10) -> str:
    """Each with its reason, `most` at most.

    >>> named([LeftOut(name, "is none", "") for name in "abc"], most=2)
    'a (is none), b (is none), and 1 more'
    """
    told = [f"{one.name} ({one.why})" for one in left_out[:most]]
    more = len(left_out) - most
    return ", ".join([*told, *([f"and {more:,} more"] if more > 0 else [])])
