"""One of two processes that make rows together: test_shares.py starts both and compares them.

    python tests/made_by_two.py COORDINATOR NUMBER DIRECTORY

Prints what each case gave, as JSON.
"""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np

import mnistjax as mj
from mnistjax.errors import StorageError
from mnistjax.frozen.shares import keepers_of, made_by_all
from mnistjax.report.console import console
from mnistjax.rows.cache import Cached, RowsToMake, TooLarge, cached_rows

ROWS, BATCH = 10, 3


def made(case: str, directory: Path, *, stop_after: int = 100, limit: int = 10**6):
    """What came of `case`, and the first row of every batch that was made here."""
    starts: list[int] = []

    def make(start: int, end: int) -> np.ndarray:
        starts.append(start)
        return np.arange(start, end, dtype=np.float32)[:, None] * np.ones((1, 4), np.float32)

    rows = RowsToMake(make, (ROWS, 4), np.dtype(np.float32), case)
    how = {"key": f"{len(case):064x}", "batch_size": BATCH, "console": console, "quiet": True}
    keep = partial(cached_rows, directory=directory, limit_bytes=limit, **how)

    def should_stop() -> bool:
        return len(starts) >= stop_after

    try:
        got = made_by_all(rows, keep, directory=directory, should_stop=should_stop)
    except StorageError as error:
        return [error.what, starts]
    if isinstance(got, Cached):
        return [got.rows[:, 3].tolist(), got.computed, starts]
    return [type(got).__name__, None if isinstance(got, TooLarge) else got.rows, starts]


def main(coordinator: str, number: int, place: Path) -> dict[str, object]:
    mj.distributed(coordinator, num_processes=2, process_id=number)
    own = place / f"own-{number}"
    second = number == 1
    (place / "file").touch()
    return {
        "who keeps": [keepers_of(place / "one"), keepers_of(own)],
        "one directory": made("one", place / "one"),
        "found": made("one", place / "one"),
        "two directories": made("own", own),
        "the second has lost its own": made("own", own / "new" if second else own),
        "the second stops": made("stopped", place / "one", stop_after=2 if second else 100),
        "and both go on": made("stopped", place / "one"),
        "the first stops": made("stop now", place / "one", stop_after=100 if second else 1),
        "too large": made("too large", place / "one", limit=100),
        "the second cannot keep": made("failing", place / "file" / "x" if second else own),
        "the first cannot keep": made("no room", own if second else place / "file" / "x"),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))))
