"""What a checkpoint says of itself: digests of its files and arrays, and one over the saying.

Orbax notices damage to its index files only. Restored with one bit of the array data flipped, 160
of 160 checkpoints gave wrong values without an error. Files are compared before Orbax reads them:
its threads write tracebacks about what they cannot parse. Arrays are compared after it.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mnistjax.training.freeze import paths

SCHEMA = 1


class Leaf(NamedTuple):
    """An array of the state: its path, dtype, shape, and the SHA-256 of its bytes."""

    path: str
    dtype: str
    shape: list[int]
    sha256: str


class Record(NamedTuple):
    """What is saved beside the arrays."""

    schema: int
    step: int
    score: float | None
    extra: dict[str, Any]
    leaves: list[Leaf]
    files: dict[str, str]


def digests(tree: Any) -> list[Leaf]:
    """Every leaf of `tree` with the SHA-256 of its bytes, in tree order.

    >>> [(leaf.path, leaf.sha256[:8]) for leaf in digests({"w": np.zeros(2, np.float32)})]
    [('w', 'af5570f5')]
    """
    return [
        leaf._replace(sha256=_sha256(np.asarray(array)))
        for leaf, array in zip(layout(tree), jax.tree.leaves(tree), strict=True)
    ]


def layout(tree: Any) -> list[Leaf]:
    """As `digests`, without them: `tree` may be abstract.

    >>> layout({"w": jax.ShapeDtypeStruct((2, 3), np.float32)})
    [Leaf(path='w', dtype='float32', shape=[2, 3], sha256='')]
    """
    return [
        Leaf(path, str(leaf.dtype), list(leaf.shape), "")
        for path, leaf in zip(paths(tree), jax.tree.leaves(tree), strict=True)
    ]


def file_digests(directory: Path) -> dict[str, str]:
    """SHA-256 of every file below `directory`, by its path in there."""
    found = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found[path.relative_to(directory).as_posix()] = digest
    return found


def seal(record: Record) -> str:
    """`record` as JSON text and the text's own digest: the table of digests may be damaged too."""
    text = json.dumps(record, sort_keys=True)
    return json.dumps({"record": text, "sha256": hashlib.sha256(text.encode()).hexdigest()})


def unseal(sealed: str) -> Record:
    """The record of `seal`; raise `ValueError` if a character of it has changed.

    >>> record = Record(SCHEMA, 3, None, {}, [], {})
    >>> unseal(seal(record)) == record
    True
    """
    outer = json.loads(sealed)
    if hashlib.sha256(outer["record"].encode()).hexdigest() != outer["sha256"]:
        raise ValueError("the table of digests is damaged")
    record = Record(*json.loads(outer["record"]))
    return record._replace(leaves=[Leaf(*leaf) for leaf in record.leaves])


def _sha256(array: np.ndarray) -> str:
    # bfloat16 and its like have no buffer protocol; their bytes have.
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()
