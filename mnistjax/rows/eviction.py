"""A cache keeps to its limit: what was used longest ago goes."""

from contextlib import suppress
from pathlib import Path

from mnistjax.disk import try_lock


def forget_oldest(directory: Path, *, needed: int, limit_bytes: int, spare: str) -> None:
    """Delete rows in `directory` until `needed` bytes more keep to `limit_bytes`.

    Those whose record was touched longest ago go first; never those of the key `spare`, nor any
    that another process computes just now. Lock files stay: a lock on a deleted file keeps nobody
    out. Whoever has the rows mapped keeps them until it ends.
    """
    files = []
    for record in directory.glob("*/record.json"):
        with suppress(OSError, ValueError):  # another process may delete it just now
            (rows,) = record.parent.glob("*.npy")
            size = rows.stat().st_size
            files.append((record.stat().st_mtime_ns, size, record, rows))
    files = sorted(file for file in files if file[2].parent.name != spare)
    over = needed + sum(size for _, size, _, _ in files) - limit_bytes
    for _, size, record, rows in files:
        if over <= 0:
            return
        # On Windows a file that is mapped cannot be deleted; it is then for the next one to do.
        with suppress(OSError), record.with_name("lock").open("a") as lock:
            if try_lock(lock.fileno()):
                rows.unlink()
                record.unlink()
                over -= size
