"""Where runs are: may one begin or go on here, and which began last? Nothing here imports jax."""

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from mnistjax.errors import StorageError

CONFIG, ARCHIVE = "config.json", "model.safetensors"


def check_directory(directory: Path, *, resume: bool | None) -> None:
    """Raise `StorageError` unless a run may begin in `directory`, or with `resume` go on there.

    None for what is no run, and so never goes on.
    """
    what, has_run = f"`directory` {directory}", (directory / CONFIG).is_file()
    if resume and not has_run:
        fix = "pass the `directory` of an earlier run, or drop `resume=True`"
        raise StorageError(what, "there is no run to resume", fix=fix)
    if not resume and directory.is_dir() and any(map(_counts, directory.iterdir())):
        fix = (
            "add `resume=True` to go on with it"
            if has_run and resume is not None
            else "pass an empty or new `directory`"
        )
        raise StorageError(what, "is not empty", fix=fix)
    parent = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not parent.is_dir():
        raise StorageError(what, f"{parent} is a file", fix="pass another `directory`")


@contextmanager
def reserved(parent: Path, name: str) -> Iterator[Path]:
    """A new directory `parent/name`, or `name-2` and so on, while it is entered.

    Made at once, so that processes which start in the same second have one each. What no run has
    begun in is removed at the end. Raises `StorageError` if it cannot be made.
    """
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    directory, made = parent / name, not parent.exists()
    for directory in map(parent.joinpath, names):
        try:
            directory.mkdir(parents=True)
            break
        except FileExistsError:
            if parent.exists() and not parent.is_dir():
                fix = "pass another `directory`"
                raise StorageError(str(directory), f"{parent} is a file", fix=fix) from None
        except OSError as error:
            why, fix = error.strerror or str(error), "pass a `directory` that can be written"
            raise StorageError(str(directory), why, fix=fix) from error
    try:
        yield directory
    finally:
        with suppress(OSError):  # it is not empty
            directory.rmdir()
            if made:
                parent.rmdir()


def place_of_run(
    output: Path | None, *, experiment: str, resume: bool
) -> AbstractContextManager[Path]:
    """`output` if a run may begin or go on there, or a new directory under runs/, to be entered."""
    if output is None:
        return reserved(Path("runs"), f"{experiment}-{time.strftime('%Y%m%d-%H%M%S')}")
    check_directory(output, resume=resume)
    return nullcontext(output)


def newest_run(parent: Path, experiment: str) -> Path:
    """The run of `experiment` in `parent` that began last; raise `StorageError` without one."""
    runs = [path.parent for path in parent.glob(f"{experiment}-*/{CONFIG}")]
    if not runs:
        fix = "pass the `directory` of one, or drop `resume=True` to start one"
        raise StorageError("`resume=True`", f"there is no earlier run under {parent}/", fix=fix)
    return max(runs, key=began)


def read_config(directory: Path) -> dict[str, Any]:
    """`config.json` of the run in `directory`; raise `StorageError` if it cannot be read."""
    path = directory / CONFIG
    try:
        return {**json.loads(path.read_text())}
    except (OSError, ValueError, TypeError, RecursionError) as error:
        fix = "start anew with another `directory`"
        raise StorageError(f"{path}", str(error), fix=fix) from error


def began(directory: Path) -> float:
    """When the run in `directory` began, in seconds since 1970; resuming does not change it.

    Of runs from before it was written down, the time in their name, else that of their file.
    """
    try:
        return float(read_config(directory)["began"])
    except (StorageError, KeyError, TypeError, ValueError):
        pass
    try:
        stamp = "-".join(directory.name.split("-")[-2:])
        return time.mktime(time.strptime(stamp, "%Y%m%d-%H%M%S"))
    except ValueError:
        return (directory / CONFIG).stat().st_mtime


def _counts(path: Path) -> bool:
    """Whether it makes a directory used: a lock or a half-written file of a killed start do not."""
    return not path.name.startswith(".") and path.suffix != ".part"
