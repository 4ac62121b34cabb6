"""HDF5 without its ways out of the file: hard links only, plain bounded arrays, short names.

An HDF5 file can name other files (external links, external storage, virtual datasets), promise
any size, and unpack a few bytes to gigabytes. Nothing here follows or reads any of that.
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mnistjax.errors import WeightsError
from mnistjax.models.vgg16_table import Shape

if TYPE_CHECKING:
    import h5py

UNSUPPORTED = "unsupported HDF5 feature"
_FIX = "save the weights again with Keras, or get them from a source you trust"
_MAX_NAMES = 10_000
_CHUNK = 2**20  # bytes; Keras writes no chunks at all


def refuse(where: str, why: str) -> WeightsError:
    """The error for a file that asks for more than plain arrays."""
    return WeightsError(f"HDF5 object {printable(where)}", why, fix=_FIX)


def printable(name: str) -> str:
    r"""A name out of a file, safe to show: no control characters, no novel.

    >>> printable("block1\x1b[2J")
    'block1\\x1b[2J'
    """
    return name.encode("unicode_escape").decode("ascii")[:100]


def follow(group: "h5py.Group", path: str) -> "h5py.Group | h5py.Dataset":
    """What lies at `path` below `group`, every part of it a hard link.

    Raises `WeightsError` if a part is a soft or external link, or is not there.
    """
    import h5py
    from h5py.h5l import TYPE_HARD

    here = group
    for part in path.split("/"):
        if part in ("", ".", "..") or not isinstance(here, h5py.Group):
            raise refuse(path, "not a path inside the file")
        if not has(here, part):
            raise refuse(path, "named in the file, but not there")
        if here.id.links.get_info(part.encode()).type != TYPE_HARD:
            raise refuse(path, f"{UNSUPPORTED}: a soft or external link at {printable(part)}")
        here = here[part]
    if not isinstance(here, h5py.Group | h5py.Dataset):
        raise refuse(path, f"{UNSUPPORTED}: a {type(here).__name__}")
    return here


def has(group: "h5py.Group", name: str) -> bool:
    """Whether `group` has a link of that name; where it leads is not asked."""
    return group.id.links.exists(name.encode())


def subgroup(group: "h5py.Group", path: str) -> "h5py.Group":
    """`follow`, for what must be a group."""
    import h5py

    here = follow(group, path)
    if not isinstance(here, h5py.Group):
        raise refuse(path, "an array where a group belongs")
    return here


def array(group: "h5py.Group", path: str) -> "h5py.Dataset":
    """`follow`, for what must be an array."""
    import h5py

    here = follow(group, path)
    if not isinstance(here, h5py.Dataset):
        raise refuse(path, "a group where an array belongs")
    return here


def names(group: "h5py.Group | h5py.Dataset", attribute: str) -> list[str] | None:
    """The strings of an attribute, also where Keras cut a long one into `<attribute>0, 1, ...`.

    None if there is no such attribute. Raises `WeightsError` if it does not hold names.
    """
    if attribute in group.attrs:
        return _strings(group, attribute)
    found: list[str] = []
    count = 0
    while f"{attribute}{count}" in group.attrs:
        found += _strings(group, f"{attribute}{count}")
        count += 1
    return found if count else None


def _strings(group: "h5py.Group | h5py.Dataset", attribute: str) -> list[str]:
    import h5py

    where = f"{group.name}@{attribute}"
    about = group.attrs.get_id(attribute)
    if about.shape is None or math.prod(about.shape) > _MAX_NAMES:
        raise refuse(where, "does not hold names")
    if 0 in about.shape:  # Keras writes an empty list as float64
        return []
    if h5py.check_string_dtype(about.dtype) is None:
        raise refuse(where, "does not hold names")
    values: Any = group.attrs[attribute]
    texts = [
        value.decode() if isinstance(value, bytes) else value for value in np.ravel(values).tolist()
    ]
    for text in texts:
        if not text.isprintable():
            raise refuse(where, "does not hold names")
    return texts


def _is_bfloat16(dataset: "h5py.Dataset", stored: Any) -> bool:
    """Keras hands HDF5 the bare two bytes; Keras 3's own layout says so in an attribute."""
    from h5py.h5t import OPAQUE

    said = names(dataset, "dtype")
    opaque = stored.get_class() == OPAQUE and stored.get_size() == 2 and not stored.get_tag()
    return opaque and said in (None, ["bfloat16"])


def check_array(dataset: "h5py.Dataset", shape: Shape) -> None:
    """Raise `WeightsError` unless `dataset` is a plain float array of `shape`, safe to read."""
    import h5py

    where = str(dataset.name)
    if dataset.external:
        raise refuse(where, f"{UNSUPPORTED}: external storage")
    if dataset.is_virtual:
        raise refuse(where, f"{UNSUPPORTED}: a virtual dataset")
    stored = dataset.id.get_type()
    bfloat16 = _is_bfloat16(dataset, stored)
    if not bfloat16 and not any(stored.equal(getattr(h5py.h5t, name)) for name in _FLOATS):
        raise refuse(where, f"{UNSUPPORTED}: type {dataset.dtype}, not a float of 2, 4 or 8 bytes")
    if dataset.shape != shape:
        raise refuse(where, f"is {dataset.shape}, not {shape}")
    size = math.prod(shape) * stored.get_size()
    kept = dataset.id.get_storage_size()
    if dataset.chunks is None:
        whole = kept == size
    else:  # a chunk may be larger than its array, and is unpacked whole
        chunk = math.prod(dataset.chunks) * stored.get_size()
        there = math.prod(
            -(-side // step) for side, step in zip(shape, dataset.chunks, strict=True)
        )
        whole = dataset.id.get_num_chunks() == there and chunk <= max(size, _CHUNK)
    if not whole:
        raise refuse(where, f"stores {kept:,} bytes for an array of {size:,}")


_FLOATS = [f"IEEE_F{bits}{order}" for bits in (16, 32, 64) for order in ("LE", "BE")]
