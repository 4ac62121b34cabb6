"""Which files are IDX, and which of a set's four each is."""

import re
from collections.abc import Iterable
from pathlib import Path

from mnistjax.data.part_names import part_name

TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
MAX_DIMENSIONS = 4


def is_idx(start: bytes) -> bool:
    """Whether a file that starts so is IDX of a type and a number of dimensions that we read."""
    whole = len(start) >= 4 and start[:2] == b"\0\0" and start[2] in TYPES
    return whole and 1 <= start[3] <= MAX_DIMENSIONS


def idx_set(path: Path, start: bytes) -> str | None:
    """The set an IDX file belongs to: "emnist-letters", "" for the usual names; None if not IDX.

    `start` are the file's first plain bytes. A file that has one of the usual names is taken for
    IDX whatever it holds: reading it says what is wrong.
    """
    usual = re.search(r"(images|labels)[-.]idx\d", path.name)
    role = role_of(path.name)
    return role[0] if role and (usual or is_idx(start)) else None


def role_of(name: str) -> tuple[str, str] | None:
    """The set and the role, a key of `idx.FILES`, that the name of a file speaks of.

    >>> role_of("emnist-letters-test-labels-idx1-ubyte.gz"), role_of("train.csv")
    (('emnist-letters', 'test_labels'), None)
    """
    key, part = part_name(name)
    kind = re.search(r"image|img|label", name.lower()[len(key) :])
    if part not in ("train", "test") or not kind:
        return None
    return key, f"{part}_{'labels' if kind.group() == 'label' else 'images'}"


def find_idx(files: Iterable[Path], key: str = "") -> dict[str, Path]:
    """The IDX files of the set `key` by role; of a file plain and zipped, the plain one."""
    found = {}
    for path in sorted(files):
        role = role_of(path.name)
        if role and role[0] == key:
            found.setdefault(role[1], path)
    return found
