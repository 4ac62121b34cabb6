"""model.safetensors: what a run is worth keeping of, readable without Orbax, optimiser or data."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mnistjax.disk import write_whole
from mnistjax.errors import StorageError, UsageError
from mnistjax.files import params_sha256
from mnistjax.models.functional import ModelState, Params
from mnistjax.runs.directory import ARCHIVE as ARCHIVE
from mnistjax.runs.leaves import is_key
from mnistjax.training.freeze import paths

SCHEMA = "mnistjax-model-1"


class Archive(NamedTuple):
    """A trained network's arrays, "params/<path>" and "model_state/<path>", and what they are.

    `about` is JSON: "network" (`models.describe`), "images", "class_names", "dataset", "versions"
    and "sha256", the digest of all the rest.
    """

    arrays: Mapping[str, np.ndarray]
    about: dict[str, Any]

    @property
    def params(self) -> Params:
        """The parameters as nested dicts."""
        return _nested(self.arrays, "params")

    @property
    def model_state(self) -> ModelState:
        """The model state as nested dicts; () if there is none."""
        return _nested(self.arrays, "model_state") or ()

    def filled_in(self, like: Any, name: str = "params") -> Any:
        """The tree `like`, of a network of one's own, with the arrays saved under `name`.

        Raises `UsageError` if it has other paths, shapes or types.
        """
        leaves, structure = jax.tree.flatten(like)
        names = [f"{name}/{path}" for path in paths(like)]
        saved = {key for key in self.arrays if key.startswith(f"{name}/")}
        if wrong := sorted(saved ^ {*names}):
            why = f"{len(wrong)} arrays are only here or only in the run, {wrong[0]} first"
            raise UsageError("`model`", why, fix="pass the model that was trained")
        return jax.tree.unflatten(structure, map(self._like, names, leaves))

    def _like(self, name: str, leaf: Any) -> Any:
        array, there = self.arrays[name], _numbers(leaf)
        if (array.shape, array.dtype) != (there.shape, there.dtype):
            why = f"{name} is {there.dtype}{there.shape}, in the run {array.dtype}{array.shape}"
            raise UsageError("`model`", why, fix="pass the model that was trained")
        if is_key(leaf):
            return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
        return array


def write_archive(
    path: Path, params: Params, model_state: ModelState, about: dict[str, Any]
) -> None:
    """Write both trees and `about`, with a digest, whole or not at all."""
    import safetensors.numpy

    arrays = {
        f"{name}/{key}": np.asarray(_numbers(leaf), order="C")
        for name, tree in (("params", params), ("model_state", model_state))
        for key, leaf in zip(paths(tree), jax.tree.leaves(tree), strict=True)
    }
    about = about | {"sha256": _sha256(arrays, about)}
    metadata = {"schema": SCHEMA, "about": json.dumps(about)}
    write_whole(path, safetensors.numpy.save(arrays, metadata))


def read_archive(path: Path) -> Archive:
    """Read back what `write_archive` wrote; raise `StorageError` if it is not that to the bit.

    A file of safetensors holds arrays and text only: nothing in it can run.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     file = Path(place) / ARCHIVE
    ...     write_archive(file, {"w": np.ones(2, np.float32)}, (), {"class_names": ["a", "b"]})
    ...     read_archive(file).params
    {'w': array([1., 1.], dtype=float32)}
    """
    import safetensors

    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("schema") != SCHEMA:
                why = f"schema {metadata.get('schema', 'none')[:40]!r}, not {SCHEMA}"
                fix = "pass a run, or its model.safetensors"
                raise StorageError(str(path), why, fix=fix)
            about = json.loads(metadata["about"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if _sha256(arrays, about) != about["sha256"]:
            raise ValueError("it is not what was saved")
    except StorageError:
        raise
    except Exception as error:  # a damaged header makes safetensors raise nearly anything
        fix = "put it back from a copy, or train anew"
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise StorageError(str(path), why, fix=fix) from error
    return Archive(arrays, about)


def _sha256(arrays: Mapping[str, np.ndarray], about: dict[str, Any]) -> str:
    text = json.dumps({**about, "sha256": ""}, sort_keys=True)
    return hashlib.sha256((params_sha256({**arrays}) + text).encode()).hexdigest()


def _numbers(leaf: Any) -> np.ndarray:
    """An array; of keys of random numbers the numbers they are."""
    return np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)


def _nested(arrays: Mapping[str, np.ndarray], under: str) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        first, *above, last = name.split("/")
        if first == under:
            place = tree
            for key in above:
                place = place.setdefault(key, {})
            place[last] = array
    return tree
