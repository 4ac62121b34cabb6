"""One saved state in a directory: Orbax (v1 API, wrapped here alone) and the digests beside it."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from mnistjax.disk import keep
from mnistjax.errors import StorageError
from mnistjax.models.functional import ModelState, Params
from mnistjax.runs.digest import (
    SCHEMA,
    Leaf,
    Record,
    digests,
    file_digests,
    layout,
    seal,
    unseal,
)
from mnistjax.training.state import TrainState

DIGESTS = "digests.json"
UNFINISHED = ".unfinished"  # in the name of what is being written or deleted


class DamagedError(StorageError):
    """A saved state is not what was saved."""


def write(
    directory: Path, step: int, state: TrainState, *, extra: dict[str, Any], score: float | None
) -> Record:
    """Write `state` to a new `directory`, on disk with its digests when this returns.

    Whatever Orbax and the disk raise comes out as it is.
    """
    record = Record(SCHEMA, step, score, extra, digests(state), {})
    with _without_orbax_log():
        ocp.save(str(directory), _saved(state), overwrite=True)
    record = record._replace(files=file_digests(directory))
    (directory / DIGESTS).write_text(seal(record))
    keep(*directory.rglob("*"), directory)
    return record


def read_record(directory: Path) -> Record:
    """What was saved in `directory`; raise `DamagedError` if that cannot be told for sure.

    A record of a newer schema is a plain `StorageError`.
    """
    try:
        record = unseal((directory / DIGESTS).read_text())
        if str(record.step) != directory.name:
            raise ValueError(f"it is a copy of step {record.step}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(directory, str(error)) from error
    if record.schema > SCHEMA:
        why = f"written by a newer mnistjax (schema {record.schema}, here {SCHEMA})"
        raise StorageError(str(directory), why, fix="update mnistjax")
    return record


def load(directory: Path, *, like: TrainState) -> tuple[TrainState, Record]:
    """The state in `directory`, laid out on the devices as `like`, whose data is not looked at.

    Raises `StorageError` if it is the state of another model, `DamagedError` if it is damaged.
    """
    record = read_record(directory)
    _compare_layouts(directory, record.leaves, layout(like))
    _compare_files(directory, record)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), like
    )
    state = like._replace(**ocp.load(str(directory), _saved(shapes)))
    _compare_arrays(directory, record.leaves, state)
    return state, record


def load_arrays(directory: Path) -> tuple[Params, ModelState]:
    """Parameters and model state in `directory`, as nested dicts of NumPy arrays.

    For who has not the model at hand. Raises `DamagedError` if they are not what was saved.
    """
    record = read_record(directory)
    _compare_files(directory, record)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no devices are named: they do not matter here
        tree = jax.tree.map(np.asarray, ocp.load(str(directory)))
    found = {name: tree.get(name, ()) for name in ("params", "model_state")}
    saved = [leaf for leaf in record.leaves if leaf.path.split("/")[0] in found]
    _compare_arrays(directory, saved, found)
    return found["params"], found["model_state"]


def _saved(state: TrainState) -> dict[str, Any]:
    """The fields that are saved: without a model state, so are those of before there was one."""
    fields = state._asdict()
    if not jax.tree.leaves(state.model_state):
        del fields["model_state"]
    return fields


def nbytes(state: TrainState) -> int:
    """Bytes of all arrays of `state`."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state))


def _compare_files(directory: Path, record: Record) -> None:
    try:
        there = file_digests(directory)
    except OSError as error:
        raise _damaged(directory, str(error)) from error
    for name, digest in record.files.items():
        if there.get(name) != digest:
            raise _damaged(directory, f"{name} is not what was saved")


def _compare_arrays(directory: Path, saved: list[Leaf], tree: Any) -> None:
    there = {leaf.path: leaf for leaf in digests(tree)}
    for leaf in saved:
        if there.get(leaf.path) != leaf:
            raise _damaged(directory, f"{leaf.path} is not what was saved")


def _compare_layouts(directory: Path, saved: list[Leaf], wanted: list[Leaf]) -> None:
    """Orbax itself casts dtypes without a word."""
    fix = "go on with the model that this run was made with"
    for theirs, ours in zip(saved, wanted, strict=False):
        if ours != theirs._replace(sha256=""):
            why = f"{theirs.path} is {theirs.dtype}{theirs.shape}, "
            why += f"where this run has {ours.path} {ours.dtype}{ours.shape}"
            raise StorageError(str(directory), why, fix=fix)
    if len(saved) != len(wanted):
        why = f"it has {len(saved)} arrays, where this run has {len(wanted)}"
        raise StorageError(str(directory), why, fix=fix)


def _damaged(directory: Path, why: str) -> DamagedError:
    fix = "put the directory back from a copy, or start anew with another `directory`"
    return DamagedError(str(directory), why, fix=fix)


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
