"""Checkpoints: Orbax (v1 API, wrapped here alone) writes them, digests tell if they are whole.

Orbax's own manager takes any directory with a number for a checkpoint, reads scores from files
that may be damaged, and skips saves without an error; so what is there and what is kept is
decided here, from records that are checked.
"""

import logging
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
from orbax.checkpoint import v1 as ocp

from mnistjax.errors import StorageError, warn
from mnistjax.training.digest import SCHEMA, Record, digests, file_digests, layout, seal, unseal
from mnistjax.training.state import TrainState
from mnistjax.training.storage import keep as keep_on_disk

UNFINISHED = ".unfinished"  # being written, or being deleted
DIGESTS = "digests.json"
ROOM = 3  # times the state: the new one, while two are kept


class Saved(NamedTuple):
    """A restored checkpoint: its step, the state, and the plain JSON saved beside it."""

    step: int
    state: TrainState
    extra: dict[str, Any]


class DamagedError(StorageError):
    """A checkpoint is not what was saved."""


def abstract(state: TrainState) -> TrainState:
    """Shapes, dtypes and devices of `state` without its data: outlives the donated arrays."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state
    )


class Checkpoints:
    """The checkpoints of one run: the newest `keep`, at least two, and the best by `score`.

    Enter it to write, one process at a time (`mnistjax.training.lock.hold`): entering and leaving
    remove what unfinished saves have left. Raises `StorageError` for what cannot be written, and
    for what cannot be read or is not, bit for bit, what was saved.

    >>> import tempfile, optax, jax.numpy as jnp
    >>> from mnistjax.training.state import init_state
    >>> state = init_state({"w": jnp.ones(2)}, optax.sgd(0.1))
    >>> with tempfile.TemporaryDirectory() as directory, Checkpoints(Path(directory)) as saves:
    ...     saves.save(0, state, score=0.9, extra={"note": "first"})
    ...     saves.restore(0, like=abstract(state)).extra
    {'note': 'first'}
    """

    def __init__(self, directory: Path, *, keep: int = 2) -> None:
        if keep < 2:
            raise ValueError(f"keep={keep}: a damaged newest checkpoint needs one before it")
        self._directory, self._keep = directory, keep
        self._records: dict[int, Record] = {}
        with self._errors():
            directory.mkdir(parents=True, exist_ok=True)
        for step in self._found():
            with suppress(StorageError):  # told by `newest`
                self._records[step] = self._record(step)

    def __enter__(self) -> "Checkpoints":
        with self._errors():
            self._clear()
        return self

    def __exit__(self, *_: object) -> None:
        self._clear(ignore_errors=True)

    @property
    def steps(self) -> list[int]:
        """Steps whose record is whole, oldest first; damaged arrays show when restored."""
        return sorted(self._records)

    def check_room(self, state: TrainState) -> None:
        """Raise `StorageError` if the disk cannot take the checkpoints of `state`."""
        needed = ROOM * _nbytes(state)
        with self._errors():
            free = shutil.disk_usage(self._directory).free
        if free < needed:
            why = f"checkpoints need {needed:,} bytes, {free:,} are free"
            raise StorageError(str(self._directory), why, fix=_FIX)

    def save(
        self, step: int, state: TrainState, *, extra: dict[str, Any], score: float | None = None
    ) -> None:
        """Write `state` at `step`; when this returns it is on disk, with digests read back.

        A state with a higher `score` is kept longer; of equal scores the later. A checkpoint of
        the same step is replaced.
        """
        path = self._path(step)
        part = path.with_name(f"{step}{UNFINISHED}")
        record = Record(SCHEMA, step, score, extra, digests(state), {})
        with self._errors(needed=_nbytes(state)):
            with _without_orbax_log():
                ocp.save(part, state, overwrite=True)
            sealed = seal(record._replace(files=file_digests(part)))
            (part / DIGESTS).write_text(sealed)
            keep_on_disk(*part.rglob("*"), part)
            if path.exists():
                self._discard(step)
            part.rename(path)
            keep_on_disk(self._directory)
        record = self._record(step)
        if seal(record) != sealed:
            raise StorageError(str(path), "was not saved", fix=_FIX)
        self._records[step] = record
        with self._errors():
            for old in self._superseded():
                self._discard(old)

    def restore(self, step: int, *, like: TrainState) -> Saved:
        """The checkpoint of `step`, laid out on the devices as `like` (from `abstract`) says."""
        record = self._record(step)
        wanted = layout(like)
        for ours, theirs in zip(wanted, record.leaves, strict=False):
            if ours != theirs._replace(sha256=""):
                why = f"{theirs.path} is {theirs.dtype}{theirs.shape}, "
                why += f"where this run has {ours.path} {ours.dtype}{ours.shape}"
                raise StorageError(str(self._path(step)), why, fix=_SAME_RUN)
        if len(wanted) != len(record.leaves):
            why = f"it has {len(record.leaves)} arrays, where this run has {len(wanted)}"
            raise StorageError(str(self._path(step)), why, fix=_SAME_RUN)
        with self._damage(step):
            there = file_digests(self._path(step))
            for name, saved in record.files.items():
                if there.get(name) != saved:
                    raise ValueError(f"{name} is not what was saved")
            state = ocp.load(self._path(step), like)
            for found, saved in zip(digests(state), record.leaves, strict=True):
                if found != saved:
                    raise ValueError(f"{saved.path} is not what was saved")
        return Saved(step, state, record.extra)

    def newest(self, *, like: Callable[[int], TrainState]) -> Saved | None:
        """The newest checkpoint that is whole, with one warning about what it had to pass over.

        `like` gives the layout of a step. None where no checkpoint ever was; a `StorageError`,
        and nothing touched, where all are damaged or one is of a newer version.
        """
        damaged: list[DamagedError] = []
        saved = None
        for step in sorted(self._found(), reverse=True):
            try:
                self._record(step)
                saved = self.restore(step, like=like(step))
                break
            except DamagedError as error:
                damaged.append(error)
                self._records.pop(step, None)
        if damaged and saved is None:
            raise damaged[0]
        passed = [f"{error.what} is damaged ({error.why})" for error in damaged]
        passed += [f"{path} is no checkpoint" for path in self._strays()]
        if passed:
            going_on = f"going on from step {saved.step}" if saved else "starting at step 0"
            warn(f"{'; '.join(passed)}: {going_on}")
        return saved

    def _path(self, step: int) -> Path:
        return self._directory.absolute() / str(step)  # Orbax refuses a relative one

    def _found(self) -> list[int]:
        """Steps that have a directory with something in it, whole or not."""
        with self._errors():
            return [
                int(path.name)
                for path in self._directory.iterdir()
                if path.name.isdecimal() and path.is_dir() and any(path.iterdir())
            ]

    def _strays(self) -> list[Path]:
        known = {self._path(step).name for step in self._found()} | {".lock"}
        return sorted(path for path in self._directory.iterdir() if path.name not in known)

    def _record(self, step: int) -> Record:
        path = self._path(step)
        with self._damage(step):
            record = unseal((path / DIGESTS).read_text())
            if record.step != step:
                raise ValueError(f"it is a copy of step {record.step}")
        if record.schema > SCHEMA:
            why = f"written by a newer mnistjax (schema {record.schema}, here {SCHEMA})"
            raise StorageError(str(path), why, fix="update mnistjax")
        return record

    def _superseded(self) -> list[int]:
        scored = [
            (record.score, step)
            for step, record in self._records.items()
            if record.score is not None and not math.isnan(record.score)
        ]
        best = {max(scored)[1]} if scored else set()
        return [step for step in self.steps[: -self._keep] if step not in best]

    def _discard(self, step: int) -> None:
        """Out of sight by one rename first: half of a checkpoint is never taken for one."""
        gone = self._path(step).with_name(f"{step}.old{UNFINISHED}")
        self._path(step).rename(gone)
        self._records.pop(step, None)
        shutil.rmtree(gone)

    def _clear(self, *, ignore_errors: bool = False) -> None:
        for path in self._directory.glob(f"*{UNFINISHED}*"):
            shutil.rmtree(path, ignore_errors=ignore_errors)

    @contextmanager
    def _damage(self, step: int) -> Iterator[None]:
        """Damage makes Orbax raise nearly anything: ValueError, KeyError, AttributeError, ..."""
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise DamagedError(str(self._path(step)), why, fix=_BACKUP) from error

    @contextmanager
    def _errors(self, *, needed: int | None = None) -> Iterator[None]:
        """Whatever Orbax and the disk raise while writing becomes a `StorageError`."""
        try:
            yield
        except Exception as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            if needed is not None:
                free = shutil.disk_usage(self._directory).free
                why += f" ({needed:,} bytes needed, {free:,} free)"
            raise StorageError(str(self._directory), why, fix=_FIX) from error


_FIX = "check that the disk has room and the directory may be written, or pass another --output"
_SAME_RUN = "pass the flags that this run was made with"
_BACKUP = "put the directory back from a copy, or start anew with another --output"


@contextmanager
def _without_orbax_log() -> Iterator[None]:
    """Its threads log what they raise; the user gets one line, with the reason in it."""
    log = logging.getLogger("absl")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def _nbytes(state: TrainState) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state))
