"""What Orbax needs around it: a path that it can read, and silence about what is told anyway."""

import gc
import logging
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import jax

# Orbax writes below a directory called `[run]` and finds nothing there again: it looks for files by
# patterns, and takes "[", "]" and "\" of the path for part of them.
_PATTERN = re.compile(r"[\[\]\\*?{}]")


@contextmanager
def orbax_path(directory: Path) -> Iterator[str]:
    """`directory` by a road without such characters, where its own has some."""
    if not _PATTERN.search(str(directory)) or os.name != "posix":
        yield str(directory)
        return
    with tempfile.TemporaryDirectory(prefix="mnistjax-") as road:
        link = Path(road) / "link"
        link.symlink_to(directory.parent, target_is_directory=True)
        yield str(link / directory.name)


@contextmanager
def as_if_alone() -> Iterator[None]:
    """Orbax's saves and loads wait for all processes; here only the first one has the directory.

    Every process has the whole state, so nothing has to be gathered. `active_processes`, which is
    for this, does not reach Orbax's check of paths (0.12.8), a broadcast; and what is asked of
    each process differs, where a damaged checkpoint is passed over.
    """
    with mock.patch.object(jax, "process_count", lambda *_: 1):
        yield


@contextmanager
def without_orbax_log() -> Iterator[None]:
    """Its threads and tasks log what they raise; the user gets one line, with the reason in it."""
    logs = [logging.getLogger(name) for name in ("absl", "asyncio")]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    except Exception:
        _let_threads_end()
        gc.collect()  # a task that failed says so when it is thrown away: here, not later
        raise
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


def _let_threads_end(seconds: float = 10.0) -> None:
    """Where one thread of a save failed, others write on: into a directory that is then deleted."""
    for thread in threading.enumerate():
        if type(thread).__module__.startswith("orbax."):
            thread.join(seconds)
