"""A disk may refuse, lose what it has not been asked to keep, and be shared, which takes a lock."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mnistjax.errors import StorageError

try:
    import fcntl
except ImportError:  # Windows: processes are then not kept apart
    fcntl = None


@contextmanager
def locked(path: Path, *, should_stop: Callable[[], bool]) -> Iterator[bool]:
    """Hold the lock file `path` alone, waiting for other processes; False if told to stop first.

    The system lets go of it when the process dies, however it dies.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        while True:
            with storage_errors(path):
                alone = try_lock(file.fileno())
            if alone or should_stop():
                break
            time.sleep(0.05)
        yield alone


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this process alone; False if another one has it.

    Without `fcntl` nothing is locked, and the answer is True.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_directory(path: Path) -> int | None:
    """A descriptor that keeps the directory `path`, until it is closed; None if another has it.

    The directory itself is locked, so nothing is left in it. Over NFS, which locks files that are
    open to be written, nothing is.
    """
    descriptor = os.open(path, os.O_RDONLY) if fcntl else os.open(os.devnull, os.O_RDONLY)
    try:
        if try_lock(descriptor):
            return descriptor
    except OSError:
        return descriptor
    os.close(descriptor)
    return None


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """An `OSError` inside becomes a `StorageError` about `path`."""
    try:
        yield
    except OSError as error:
        why = f"{type(error).__name__}: {error.strerror or error}"
        fix = "check that the disk has room and may be written"
        raise StorageError(str(path), why, fix=fix) from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write `content` to `path` so that a kill or full disk leaves the old file or the new one."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    keep(part)
    part.replace(path)
    keep(path.parent)


def keep(*paths: Path) -> None:
    """Wait until files and directories are on the disk, not only on their way."""
    if os.name != "posix":  # Windows opens no directory
        return
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
