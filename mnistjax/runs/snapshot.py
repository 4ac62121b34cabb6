"""One saved state in a directory: Orbax (v1 API, wrapped here alone) and the digests beside it."""

import warnings
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
from mnistjax.runs.leaves import as_it_was, emptied, filled, plain, shape_of
from mnistjax.runs.orbax import as_if_alone, orbax_path, without_orbax_log
from mnistjax.training.freeze import paths
from mnistjax.training.state import TrainState

DIGESTS = "digests.json"
AVERAGES = "/averaged_params/"  # in the paths of `training.ema.EmaState`
UNFINISHED = ".unfinished"  # in the name of what is being written or deleted


class DamagedError(StorageError):
    """A saved state is not what was saved."""


def write(
    directory: Path, step: int, state: TrainState, *, extra: dict[str, Any], score: float | None
) -> Record:
    """Write `state`, made `plain`, to a new `directory`: on disk, with digests, on return.

    Whatever Orbax and the disk raise comes out as it is.
    """
    record = Record(SCHEMA, step, score, extra, digests(state), {})
    with orbax_path(directory) as path, without_orbax_log(), as_if_alone():
        ocp.save(path, _saved(state), overwrite=True)
    record = record._replace(files=file_digests(directory))
    (directory / DIGESTS).write_text(seal(record))
    keep(*directory.rglob("*"), directory)
    return record


def is_whole(directory: Path, step: int) -> bool:
    """Whether `directory` has all files of a saved `step`."""
    try:
        record = unseal((directory / DIGESTS).read_text())
        _compare_files(directory, record)
    except (OSError, ValueError, KeyError, TypeError, StorageError):
        return False
    return record.step == step


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
    shapes = jax.tree.map(shape_of, like)
    _compare_layouts(directory, record.leaves, layout(shapes))
    _compare_files(directory, record)
    with orbax_path(directory) as path, without_orbax_log(), as_if_alone():
        read = ocp.load(path, _saved(shapes))
    arrays = jax.tree.map(emptied, shapes, like._replace(**read))
    _compare_arrays(directory, record.leaves, arrays)
    return jax.tree.map(as_it_was, like, arrays), record


def load_arrays(directory: Path) -> tuple[Params, ModelState]:
    """Parameters and model state in `directory`, as nested dicts of NumPy arrays.

    For who has not the model at hand: the parameters are those of `evaluated_params`. Raises
    `DamagedError` if they are not what was saved.
    """
    record = read_record(directory)
    _compare_files(directory, record)
    with (
        warnings.catch_warnings(),
        orbax_path(directory) as path,
        without_orbax_log(),
        as_if_alone(),
    ):
        warnings.simplefilter("ignore")  # that no devices are named: they do not matter here
        tree = jax.tree.map(np.asarray, ocp.load(path))
    model = "params/", "model_state/"  # the rest only who has the optimiser can lay out
    saved = {
        leaf.path: leaf
        for leaf in record.leaves
        if leaf.path.startswith(model) or AVERAGES in leaf.path
    }
    there = zip(paths(tree), jax.tree.leaves(tree), strict=True)
    leaves = [emptied(_shape(saved[path]), leaf) if path in saved else leaf for path, leaf in there]
    tree = jax.tree.unflatten(jax.tree.structure(tree), leaves)
    _compare_arrays(directory, [*saved.values()], tree)
    return _evaluated(tree), tree.get("model_state", ())


def _evaluated(tree: Any) -> Params:
    """`training.ema.evaluated_params` of a state whose optimiser is not at hand."""
    averages = {
        path.partition(AVERAGES)[2]: leaf
        for path, leaf in zip(paths(tree), jax.tree.leaves(tree), strict=True)
        if AVERAGES in path
    }
    params = tree["params"]
    names = zip(paths(params), jax.tree.leaves(params), strict=True)
    leaves = [np.asarray(averages.get(name, leaf), leaf.dtype) for name, leaf in names]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def _saved(state: TrainState) -> dict[str, Any]:
    """The fields that are saved: without a model state, so are those of before there was one."""
    fields = state._asdict()
    if not jax.tree.leaves(state.model_state):
        del fields["model_state"]
    return jax.tree.map(filled, fields)


def _shape(leaf: Leaf) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def nbytes(state: TrainState) -> int:
    """Bytes of all arrays of `state`."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(plain(state)))


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
