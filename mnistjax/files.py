"""Small files of a run, whole or not at all; digests and versions that go into them."""

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mnistjax.disk import write_whole


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write `value`, whole or not at all."""
    write_whole(path, json.dumps(value, indent=2) + "\n")


def params_sha256(params: Any) -> str:
    """Digest of every leaf with its path, shape and dtype: equal only if every bit is.

    >>> params_sha256({"w": np.zeros(2, np.float32)})[:8]
    '953a73da'
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(leaf)
        head = f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}"
        digest.update(head.encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide the numbers."""
    names = ("mnistjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {"python": platform.python_version()} | {name: _version(name) for name in names}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # run from a checkout that is only on the path
        return "not installed"
