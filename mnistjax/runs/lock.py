"""One process per run directory: two would delete and overwrite each other's checkpoints."""

import os
import socket
from pathlib import Path

from mnistjax.disk import fcntl, try_lock
from mnistjax.errors import StorageError

_held: dict[tuple[int, int], int] = {}


def hold(directory: Path) -> None:
    """Keep `directory` for this process, by its file `.lock`, until the process ends.

    The system lets go when the process dies, however it dies, so no lock is ever stale. Holding
    it twice is holding it once. Over NFS it is as good as the server's locks; on Windows, which
    has no `fcntl`, nothing is locked. Raises `StorageError` if another process holds it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     hold(Path(directory))
    """
    if fcntl is None:
        return
    try:
        descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        info = os.fstat(descriptor)
        if (info.st_dev, info.st_ino) in _held:
            os.close(descriptor)
            return
        if not try_lock(descriptor):
            owner = os.read(descriptor, 300).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            fix = "wait for it to end, or pass another `directory`"
            raise StorageError(str(directory), f"in use by {owner}", fix=fix)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()} on host {socket.gethostname()}\n".encode(), 0)
    except OSError as error:
        fix = "pass a `directory` that can be written"
        raise StorageError(f"{directory}", error.strerror or str(error), fix=fix) from error
    _held[info.st_dev, info.st_ino] = descriptor
