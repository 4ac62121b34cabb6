"""Pictures read once by all cores into an array on disk, and found there again."""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from mnistjax.cache_dir import cache_dir
from mnistjax.data.picture import Photos, has_colour, read_picture, to_grey
from mnistjax.disk import storage_errors, write_whole
from mnistjax.errors import DataError, StorageError
from mnistjax.progress import console
from mnistjax.rows.cache import RowsToMake, TooLarge, cached_rows

BLOCK = 256  # read side by side by the threads, then written together
VERSION = 3  # of how pixels are made: another one makes all anew


class Pictures(NamedTuple):
    """Files of one folder and how they are to be read."""

    files: Sequence[Path]
    root: Path
    photos: Photos
    limit_bytes: int | None = None
    quiet: bool = True

    def key(self, **more: Any) -> str:
        """SHA-256 of all that decides the pixels: names, sizes and times, or contents."""
        facts = {"version": VERSION, "size": self.photos.size, "fit": self.photos.fit} | more
        names = [os.fsencode(path.relative_to(self.root)).hex() for path in self.files]
        facts["files"] = list(zip(names, map(self._state, self.files), strict=True))
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _state(self, path: Path) -> Any:
        if self.photos.verify:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        there = path.stat()
        return [there.st_size, there.st_mtime_ns]


def read_pictures(
    pictures: Pictures,
) -> tuple[UInt8[np.ndarray, "n size size channels"], dict[Path, str]]:
    """The pixels as a read-only map, or none and why each unreadable file is.

    One channel where no file has colours or none are wanted, else three. What is known of the files
    is kept beside the pixels, so a second call reads none of them.
    """
    directory = cache_dir() / "pictures"
    facts_at = directory / pictures.key() / "facts.json"
    facts = _read_facts(facts_at)
    if "unreadable" in facts:
        by_name = {str(path): path for path in pictures.files}
        return _NONE, {by_name[name]: why for name, why in facts["unreadable"].items()}
    coloured = pictures.photos.color if pictures.photos.color is not None else facts.get("colour")
    try:
        if coloured is not False:
            rgb = _rows(pictures, directory, channels=3)
            if coloured or _any_colour(rgb):
                _write_facts(facts_at, facts | {"colour": True})
                return rgb, {}
            _write_facts(facts_at, facts | {"colour": False})
        return _rows(pictures, directory, channels=1), {}
    except _Unreadable as unreadable:
        found = {str(path): why for path, why in unreadable.files.items()}
        _write_facts(facts_at, facts | {"unreadable": found})
        return _NONE, unreadable.files


_NONE = np.zeros((0, 1, 1, 1), np.uint8)


class _Unreadable(Exception):
    def __init__(self, files: dict[Path, str]) -> None:
        super().__init__()
        self.files = files


def _rows(pictures: Pictures, directory: Path, *, channels: int) -> np.ndarray:
    files, photos = pictures.files, pictures.photos

    def read(path: Path) -> np.ndarray | str:
        try:
            return read_picture(path, size=photos.size, fit=photos.fit)
        except DataError as error:
            return error.why

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:

        def make(start: int, end: int) -> np.ndarray:
            got = list(threads.map(read, files[start:end]))
            if any(isinstance(one, str) for one in got):  # then all of them are told at once
                got += threads.map(read, files[end:])
                known = zip(files[start:], got, strict=True)
                raise _Unreadable({path: why for path, why in known if isinstance(why, str)})
            block = np.stack(got)  # type: ignore[arg-type]
            return to_grey(block) if channels == 1 else block

        shape = (len(files), photos.size, photos.size, channels)
        got = cached_rows(
            RowsToMake(make, shape, np.dtype(np.uint8), "pictures"),
            key=pictures.key(channels=channels),
            directory=directory,
            batch_size=BLOCK,
            limit_bytes=pictures.limit_bytes,
            console=console,
            quiet=pictures.quiet,
        )
    if isinstance(got, TooLarge):
        need, limit = (size / 2**30 for size in got)
        why = f"take {need:.1f} GiB at {photos.size}x{photos.size}, more than the {limit:g} allowed"
        fix = f"pass `cache_limit={int(need) + 1}`, or a smaller `image_size`"
        raise StorageError(f"pictures of {pictures.root}", why, fix=fix)
    return got.rows  # type: ignore[union-attr]


def _any_colour(rgb: np.ndarray) -> bool:
    return any(has_colour(rgb[i : i + BLOCK]) for i in range(0, len(rgb), BLOCK))


def _read_facts(path: Path) -> dict[str, Any]:
    """What was found out of the files; nothing where that is damaged."""
    try:
        facts = json.loads(path.read_text())
        return facts if isinstance(facts, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def _write_facts(path: Path, facts: dict[str, Any]) -> None:
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(facts))
