"""Rows of a cache made by all processes together, each once, wherever they are kept."""

import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mnistjax.errors import StorageError, UsageError, as_peer_lost
from mnistjax.processes import several, share
from mnistjax.rows.cache import Cached, RowsToMake, TooLarge, Unfinished

Kept = Cached | TooLarge | Unfinished
Keep = Callable[..., Kept]
"""`cached_rows`, of rows and with `should_stop=...`; all else is given."""
KEPT, LEFT, FAILED = -1, -2, -3  # where a process that keeps rows asks for no more of them


def made_by_all(
    rows: RowsToMake, keep: Keep, *, directory: Path, should_stop: Callable[[], bool]
) -> Kept:
    """What `keep(rows, should_stop=...)` gives, in every process, with each row made once by all.

    `rows.make` computes over all processes, which call it at once with the same numbers. Where
    several see the same `directory`, the first of them keeps the rows and the others read them;
    who sees another gets them from process 0. A stop of one stops all. Raises `StorageError` in
    all where one cannot keep rows. Alone it keeps them itself.
    """
    if not several():
        return keep(rows, should_stop=should_stop)
    with as_peer_lost():
        me, keepers = jax.process_index(), keepers_of(directory)
        kept: Kept | None = None
        for keeper in sorted(set(keepers)):
            make = rows.make if keeper == 0 else partial(_of_first, rows, kept)
            talk = _Talk(keeper, should_stop)
            if me == keeper:
                kept = talk.lead(keep, rows._replace(make=make))
            else:
                talk.follow(make)
            if talk.stop:
                return Unfinished(talk.made, rows.shape[0])
            if talk.end != KEPT:
                break
        return kept or keep(rows._replace(make=_missing), should_stop=should_stop)


class _Talk:
    """One process keeps rows and says which are next; all make them, and tell it to stop."""

    def __init__(self, keeper: int, should_stop: Callable[[], bool]) -> None:
        self._keeper, self._stops = keeper, should_stop
        self.stop, self.made, self.end = False, 0, KEPT

    def lead(self, keep: Keep, rows: RowsToMake) -> Kept:
        """`keep` them, made by all; tell the others how it ended."""

        def make(start: int, end: int) -> np.ndarray:
            self._say(start, end)
            self.made = end
            return rows.make(start, end)

        how = FAILED
        try:
            kept = keep(rows._replace(make=make), should_stop=lambda: self.stop or self._stops())
            how = KEPT if isinstance(kept, Cached) else LEFT
        finally:
            self._say(how, how)
        return kept

    def follow(self, make: Callable[[int, int], Any]) -> None:
        """Make what is asked for, to the end."""
        while (order := self._say(0, 0))[0] >= 0:
            make(*order)
            self.made = order[1]
        if self.end == FAILED:
            why = "cannot keep what all have computed"
            raise StorageError(f"process {self._keeper}", why, fix="see what it said")

    def _say(self, start: int, end: int) -> tuple[int, int]:
        """What the process that keeps rows says, and whether anyone wants to stop."""
        of_all = _from_all([start, end, int(self._stops())])
        self.stop = bool(of_all[:, 2].any())
        start, end = (int(number) for number in of_all[self._keeper, :2])
        self.end = min(start, KEPT)
        return start, end


def keepers_of(directory: Path) -> list[int]:
    """For each process the first that sees the same `directory`: by a file of each, for a moment.

    The same machine, or a network's file system: names and paths would not tell. The others read
    what it keeps all at once, where in turn each would wait for the reading of those before it.
    """
    me, name = jax.process_index(), share(f".{uuid.uuid4().hex}")
    mine = directory / f"{name}-{me}"
    with suppress(OSError):  # told where rows are kept
        directory.mkdir(parents=True, exist_ok=True)
        mine.touch()
    _from_all([0])
    seen = [i for i in range(jax.process_count()) if (directory / f"{name}-{i}").exists()]
    keepers = _from_all([min([me, *seen])])
    with suppress(OSError):
        mine.unlink(missing_ok=True)
    return keepers[:, 0].tolist()


def _from_all(numbers: list[int]) -> np.ndarray:
    """What every process says, [processes, numbers]; returns when all have spoken."""
    from jax.experimental.multihost_utils import process_allgather

    return np.asarray(process_allgather(np.array(numbers, np.int32)))


def _of_first(rows: RowsToMake, kept: Kept | None, start: int, end: int) -> np.ndarray:
    """Those rows as process 0 has kept them, in every process."""
    from jax.experimental.multihost_utils import broadcast_one_to_all

    mine = np.zeros((end - start, *rows.shape[1:]), rows.dtype)
    if isinstance(kept, Cached) and jax.process_index() == 0:
        mine = np.asarray(kept.rows[start:end])
    return np.asarray(broadcast_one_to_all(mine))


def _missing(start: int, end: int) -> np.ndarray:
    why = f"rows {start} to {end} are not there, although another process has just kept them"
    raise UsageError("the feature cache", why, fix="pass `cache_features=False`")
