"""What a file is by its first bytes: no parser sees one that cannot be weights."""

from pathlib import Path

from mnistjax.errors import WeightsError

SUFFIXES = (".h5", ".hdf5", ".safetensors")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_STRANGERS = {
    b"<": "an HTML or XML page",
    b"version https://git-lfs": "a git-lfs pointer: the file itself was never fetched",
    b"PK": "a zip archive (.keras, .npz or .pt)",
    b"\x80": "a Python pickle, which could run code",
    b"\x93NUMPY": "a NumPy array",
    b"\x1f\x8b": "a gzip archive",
}


def describe(path: Path) -> str:
    """Size and first bytes, for an error.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     (file := Path(directory, "x.h5")).write_bytes(b"<html>") and describe(file)
    "6 bytes, the first: b'<html>'"
    """
    with path.open("rb") as file:
        return f"{path.stat().st_size:,} bytes, the first: {file.read(16)!r}"


def check_kind(path: Path) -> str:
    """ "hdf5" or "safetensors": both what `path` is called and what it begins with.

    Raises `WeightsError` for a missing or unreadable file, another suffix, or other contents;
    the error shows the size and the first bytes.
    """
    again = "get the file again from its source"
    try:
        if path.is_dir() or not path.exists():
            why = "a directory, not a file" if path.is_dir() else "no such file"
            raise WeightsError(f"weights {path}", why, fix="pass a .h5 or .safetensors file")
        with path.open("rb") as file:
            head = file.read(32)
        size = path.stat().st_size
        shown = describe(path)
    except OSError as error:
        why = error.strerror or str(error)
        raise WeightsError(str(path), why, fix="check that the file may be read") from error
    suffix = path.suffix.lower()
    stranger = next((is_a for start, is_a in _STRANGERS.items() if head.startswith(start)), "")
    if suffix not in SUFFIXES:
        why = f"{stranger or 'not weights this reads'}: {shown}"
        raise WeightsError(
            str(path), why, fix="pass weights saved by Keras as .h5, or .safetensors"
        )
    if size == 0:
        raise WeightsError(str(path), "an empty file: 0 bytes", fix=again)
    if suffix == ".safetensors":
        # A header's length as 8 bytes, then the header, which is JSON.
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") + 8 <= size:
            return "safetensors"
    elif head.startswith(_HDF5):
        return "hdf5"
    expected = "safetensors" if suffix == ".safetensors" else "HDF5"
    raise WeightsError(str(path), f"{stranger or f'not {expected}'}: {shown}", fix=again)
