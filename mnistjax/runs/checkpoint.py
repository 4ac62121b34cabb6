"""The checkpoints of a run: which there are, which are whole, which are kept.

Orbax's own manager takes any directory with a number for a checkpoint, reads scores from files
that may be damaged, and skips saves without an error. So this is decided here, from records that
carry digests.
"""

import json
import math
import operator
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optax

from mnistjax.disk import keep as keep_on_disk
from mnistjax.disk import lock_directory
from mnistjax.errors import StorageError, UsageError, warn
from mnistjax.models.functional import ModelState, Params
from mnistjax.runs import snapshot
from mnistjax.runs.digest import Record, seal
from mnistjax.runs.leaves import plain
from mnistjax.runs.snapshot import UNFINISHED, DamagedError
from mnistjax.training.state import TrainState, init_state

ROOM = 3  # times the state: the new one, while two are kept


class Saved(NamedTuple):
    """A restored checkpoint: its step, the state, and the plain JSON saved beside it."""

    step: int
    state: TrainState
    extra: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run: the newest `keep`, at least two, and the best by `score`.

    Enter it to write, which one process may at a time, `StorageError` else: entering and leaving
    remove what unfinished saves have left. To read, just call it. Raises `StorageError` for what
    cannot be written, and for what cannot be read or is not, bit for bit, what was saved.

    >>> import tempfile, optax, jax.numpy as jnp
    >>> from mnistjax.training.state import init_state
    >>> state = init_state({"w": jnp.ones(2)}, optax.sgd(0.1))
    >>> with tempfile.TemporaryDirectory() as directory, Checkpoints(Path(directory)) as saves:
    ...     saves.save(0, state, score=0.9, extra={"note": "first"})
    ...     saves.restore(0, like=state).extra
    {'note': 'first'}
    """

    def __init__(self, directory: Path | str, *, keep: int = 2) -> None:
        if keep < 2:
            raise ValueError(f"keep={keep}: a damaged newest checkpoint needs one before it")
        self._directory, self._keep = Path(directory).absolute(), keep  # Orbax wants it absolute
        self._records: dict[int, Record] = {}
        self._descriptor: int | None = None
        with self._errors():
            self._directory.mkdir(parents=True, exist_ok=True)
        for step in self._found():
            with suppress(StorageError):  # told by `newest`
                self._records[step] = snapshot.read_record(self._path(step))

    def __enter__(self) -> "Checkpoints":
        with self._errors():
            self._descriptor = lock_directory(self._directory)
            if self._descriptor is None:
                why = "a run is writing there, in this process or another"
                fix = "wait for it to end; to look, call Checkpoints without entering it"
                raise StorageError(str(self._directory), why, fix=fix)
            self._recover()
            self._clear()
        return self

    def __exit__(self, *_: object) -> None:
        self._clear(ignore_errors=True)
        if self._descriptor is not None:
            os.close(self._descriptor)

    @property
    def steps(self) -> list[int]:
        """Steps whose record is whole, oldest first; damaged arrays show when restored."""
        return sorted(self._records)

    def check_room(self, state: TrainState) -> None:
        """Raise `StorageError` if the disk cannot take the checkpoints of `state`."""
        needed = ROOM * snapshot.nbytes(state)
        with self._errors():
            free = shutil.disk_usage(self._directory).free
        if free < needed:
            why = f"checkpoints need {needed:,} bytes, {free:,} are free"
            raise StorageError(str(self._directory), why, fix=_FIX)

    def try_out(self) -> None:
        """Save something small and read it back; raise `StorageError` if that cannot be done.

        Before training, not after its first epoch: some paths and file systems can be written
        well, and not be read.
        """
        tiny = init_state({"w": np.zeros(1, np.float32)}, optax.identity())
        place = self._directory / f"try{UNFINISHED}"
        with self._errors(needed=snapshot.nbytes(tiny)):
            place.mkdir(exist_ok=True)
            snapshot.write(place / "0", 0, tiny, extra={}, score=None)
            snapshot.load(place / "0", like=tiny)
            shutil.rmtree(place)

    def save(
        self, step: Any, state: TrainState, *, extra: dict[str, Any], score: Any = None
    ) -> None:
        """Write `state` at `step`; when this returns it is on disk, with digests read back.

        `step` and `score` are an int and a float, or what NumPy and JAX have for them. A state with
        a higher `score` is kept longer; of equal scores the later. A checkpoint of the same step is
        replaced. Raises `UsageError` for a step that is no number from 0 on, for an `extra` that is
        no JSON, and for a leaf of `state` that is no array.
        """
        step, score = _number(step), None if score is None else float(score)
        extra, state = _plain(extra), plain(state)
        path = self._path(step)
        part = path.with_name(f"{step}{UNFINISHED}")
        with self._errors(needed=snapshot.nbytes(state)):
            record = snapshot.write(part, step, state, extra=extra, score=score)
            if path.exists():
                self._discard(step)
            part.rename(path)
            keep_on_disk(self._directory)
            if seal(snapshot.read_record(path)) != seal(record):
                raise ValueError(f"{path} was not saved")
            self._records[step] = record
            for old in self._superseded():
                self._discard(old)

    def restore(self, step: int, *, like: TrainState) -> Saved:
        """The checkpoint of `step`, laid out as `like`: a state, which may have been donated."""
        self._check_there(step)
        state, record = snapshot.load(self._path(step), like=like)
        return Saved(step, state, record.extra)

    @property
    def best(self) -> int | None:
        """The step with the highest score; None where none has one."""
        scored = [
            (record.score, step)
            for step, record in self._records.items()
            if record.score is not None and not math.isnan(record.score)
        ]
        return max(scored)[1] if scored else None

    def model(self, step: int) -> tuple[Params, ModelState]:
        """Parameters and model state of `step` as NumPy arrays, for who has no state like it."""
        self._check_there(step)
        return snapshot.load_arrays(self._path(step))

    def newest(self, *, like: Callable[[int], TrainState]) -> Saved | None:
        """The newest checkpoint that is whole, with one warning about what it had to pass over.

        `like` gives the layout of a step. None where no checkpoint ever was; a `StorageError`,
        and nothing touched, where all are damaged or one is of a newer version.
        """
        damaged: list[DamagedError] = []
        saved = None
        for step in sorted(self._found(), reverse=True):
            try:
                snapshot.read_record(self._path(step))  # before `like`: the step is none of ours?
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

    def _check_there(self, step: int) -> None:
        if not self._path(step).exists():
            there = ", ".join(map(str, self.steps)) or "none"
            what = f"{self._directory} has no checkpoint of step {step}"
            raise StorageError(what, f"there are {there}", fix="pass one of `steps`")

    def _recover(self) -> None:
        """What was saved whole, when a kill came before it had its name."""
        for part in self._directory.glob(f"*{UNFINISHED}"):
            name = part.name.removesuffix(UNFINISHED)
            path = part.with_name(name)
            if name.isdecimal() and not path.exists() and snapshot.is_whole(part, int(name)):
                part.rename(path)
                self._records[int(name)] = snapshot.read_record(path)

    def _path(self, step: int) -> Path:
        return self._directory / str(step)

    def _found(self) -> list[int]:
        """Steps that have a directory with something in it, whole or not."""
        with self._errors():
            return [
                int(path.name)
                for path in self._directory.iterdir()
                if path.name.isdecimal() and str(int(path.name)) == path.name
                if path.is_dir() and any(path.iterdir())
            ]

    def _strays(self) -> list[Path]:
        known = {str(step) for step in self._found()} | {".lock"}
        return sorted(path for path in self._directory.iterdir() if path.name not in known)

    def _superseded(self) -> list[int]:
        return [step for step in self.steps[: -self._keep] if step != self.best]

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
    def _errors(self, *, needed: int | None = None) -> Iterator[None]:
        """Orbax raises nearly anything when it cannot write: ValueError, KeyError, OSError, ..."""
        try:
            yield
        except StorageError:
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            if needed is not None:
                free = shutil.disk_usage(self._directory).free
                why += f" ({needed:,} bytes needed, {free:,} free)"
            raise StorageError(str(self._directory), why, fix=_FIX) from error


def _number(step: Any) -> int:
    try:
        number = operator.index(step)
    except TypeError as error:
        raise UsageError(f"`step` {step!r}", "is no whole number", fix="pass an int") from error
    if number < 0:
        raise UsageError(f"`step` {number}", "must be at least 0", fix="pass `step=0`")
    return number


def _plain(extra: dict[str, Any]) -> dict[str, Any]:
    """`extra` as JSON gives it back; numbers of NumPy and JAX are numbers."""
    try:
        return json.loads(json.dumps(extra, default=lambda value: value.tolist()))
    except (TypeError, ValueError, AttributeError) as error:
        fix = "pass numbers, strings, lists and dicts of them"
        raise UsageError("`extra`", f"is no JSON: {error}", fix=fix) from error


_FIX = "check that the disk has room and the directory may be written, or pass another `directory`"
