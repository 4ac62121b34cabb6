"""Rows that take long to make: made once, kept on disk, continued after a kill, within a limit."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped
from rich.console import Console

from mnistjax.disk import locked
from mnistjax.errors import UsageError
from mnistjax.progress import ProgressBar
from mnistjax.rows.eviction import forget_oldest
from mnistjax.rows.file import RowFile, nbytes

COMMIT_SECONDS = 1.0  # of work a kill may cost; each commit waits for the disk


class Cached(NamedTuple):
    """All rows, and what they cost."""

    rows: Shaped[np.ndarray, "n *row"]
    """A read-only memory map."""
    computed: int
    """Rows made now; the others were on disk."""
    damaged: bool
    """Whether something on disk had changed since it was written, and was made again."""
    seconds: float
    """Time spent in here, waiting for another process included."""

    @property
    def hit(self) -> bool:
        """Whether nothing was left to make."""
        return self.computed == 0

    @property
    def images_per_second(self) -> float:
        """Rows made in a second; 0 for a hit."""
        return self.computed / self.seconds


class TooLarge(NamedTuple):
    """The rows would take more than the limit; none was made."""

    needed_bytes: int
    limit_bytes: int


class Unfinished(NamedTuple):
    """`should_stop` said so: `rows` are on disk, and the next call continues after them."""

    rows: int
    total: int


class RowsToMake(NamedTuple):
    """What is to be made: `make(start, end)` gives those rows, `shape` is that of all of them."""

    make: Callable[[int, int], Shaped[np.ndarray, "b *row"]]
    shape: tuple[int, ...]
    dtype: Any
    what: str
    """What they are, for the progress bar and the name of the file."""


def cached_rows(
    rows: RowsToMake,
    *,
    key: str,
    directory: Path,
    batch_size: int,
    limit_bytes: int | None = None,
    console: Console,
    quiet: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Cached | TooLarge | Unfinished:
    """All of `rows`, from `directory/<key>` as far as they are there and undamaged.

    They are made in order, `batch_size` at a time. What a stop, an error or a kill leaves is
    continued by the next call. `should_stop` is asked after every batch. Of two processes at one
    key the second waits and finds the work done. `limit_bytes` holds for all in `directory`: those
    used longest ago are deleted to make room. Raises `StorageError`, for too little room before it
    starts, and `UsageError` for a key that is no SHA-256.
    """
    if not re.fullmatch("[0-9a-f]{64}", key):
        raise UsageError(f"{rows.what} cache key {key}", "is no SHA-256", fix="pass `key`, one")
    started, count = time.perf_counter(), rows.shape[0]
    needed = nbytes(rows.shape, rows.dtype)
    if limit_bytes is not None and needed > limit_bytes:
        return TooLarge(needed, limit_bytes)
    place = directory / key
    with locked(place / "lock", should_stop=should_stop) as alone:
        if not alone:
            return Unfinished(0, count)
        if limit_bytes is not None:
            forget_oldest(directory, needed=needed, limit_bytes=limit_bytes, spare=key)
        bar = ProgressBar(rows.what, count, console=console, quiet=quiet)
        with RowFile(place, rows.shape, rows.dtype, name=rows.what) as file, bar:
            found = file.rows
            bar.show(found)
            begun = committed = time.monotonic()
            for start in range(found, count, batch_size):
                done = min(start + batch_size, count)
                file.append(rows.make(start, done))
                now = time.monotonic()
                speed = (done - found) / max(now - begun, 1e-9)  # a coarse clock may stand still
                bar.show(done, words=f"{speed:,.0f} images/s")
                if now - committed > COMMIT_SECONDS:
                    file.commit()
                    committed = time.monotonic()
                if done < count and should_stop():  # leaving the file commits
                    return Unfinished(done, count)
        seconds = time.perf_counter() - started
        return Cached(file.read(), count - found, file.damaged, seconds)
