"""The feature cache keeps to its limit: what was used longest ago goes."""

from contextlib import suppress
from pathlib import Path

from mnistjax.training.storage import try_lock


def forget_oldest(directory: Path, *, needed: int, limit_bytes: int, spare: str) -> None:
    """Delete features in `directory` until `needed` bytes more keep to `limit_bytes`.

    Those whose record was touched longest ago go first; never those of the key `spare`, nor any
    that another process computes just now. Lock files stay: a lock on a deleted file keeps nobody
    out. Whoever has the features mapped keeps them until it ends.
    """
    records = [path for path in directory.glob("*/record.json") if path.parent.name != spare]
    files = [(path.stat(), path, path.with_name("features.npy")) for path in records]
    files = [(stat, path, array) for stat, path, array in files if array.exists()]
    over = needed + sum(array.stat().st_size for _, _, array in files) - limit_bytes
    for _, record, array in sorted(files, key=lambda file: file[0].st_mtime_ns):
        if over <= 0:
            return
        # On Windows a file that is mapped cannot be deleted; it is then for the next one to do.
        with suppress(OSError), record.with_name("lock").open("a") as lock:
            if try_lock(lock.fileno()):
                size = array.stat().st_size
                array.unlink()
                record.unlink()
                over -= size
