"""A directory becomes this process's own: writable, locked, and holding the right run or none."""

from pathlib import Path

from mnistjax.errors import StorageError
from mnistjax.runs.directory import CONFIG, check_directory
from mnistjax.runs.lock import hold
from mnistjax.runs.log import epoch_rows, read_rows
from mnistjax.runs.settings import Settings, check_same_run, write_config


def claim_directory(directory: Path, settings: Settings, *, resume: bool) -> None:
    """Make `directory` this process's until it ends; with `resume`, only the run that is there.

    A new run writes its `config.json`, first of all files: from then on it can be resumed. Raises
    `StorageError` for a directory that cannot be written, that another process holds, that is used
    already, or to be resumed with other settings.
    """
    check_directory(directory, resume=resume)
    _make(directory)
    hold(directory)
    if resume:
        check_same_run(directory, settings)
    elif (directory / CONFIG).exists():  # another process was faster
        fix = "pass another `directory`, or `resume=True`"
        raise StorageError(f"`directory` {directory}", "has just been used", fix=fix)
    else:
        write_config(directory, settings)


def refuse_lost_checkpoints(directory: Path) -> None:
    """Raise `StorageError` if a run without checkpoints has had one: it would start at step 0.

    An epoch's row is written before its checkpoint, so a second row tells that the first was saved.
    """
    epochs = len(epoch_rows(read_rows(directory / "metrics.jsonl")))
    if epochs > 1:
        why = f"has no checkpoint left, after {epochs} epochs"
        fix = "put checkpoints/ back from a copy, or start anew with another `directory`"
        raise StorageError(f"resuming {directory}", why, fix=fix)


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ".probe").touch()
        (directory / ".probe").unlink()
    except OSError as error:
        why = error.strerror or str(error)
        fix = "pass a `directory` that can be written"
        raise StorageError(f"`directory` {directory}", why, fix=fix) from error
