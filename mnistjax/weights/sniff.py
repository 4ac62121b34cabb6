"""What a file is by its first bytes: no parser sees one that cannot be weights."""

from pathlib import Path

from mnistjax.errors import WeightsError

_KINDS = {
    ".h5": ("hdf5", "HDF5"),
    ".hdf5": ("hdf5", "HDF5"),
    ".keras": ("keras", "a zip archive"),
    ".safetensors": ("safetensors", "safetensors"),
}
_TORCH = (".pt", ".pth", ".bin", ".ckpt")
_SAVE = (
    "where PyTorch is: import torch, safetensors.torch as s; "
    "s.save_file(torch.load('x.pth', weights_only=True), 'x.safetensors')"
)
_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
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
    """ "hdf5", "keras" or "safetensors": both what `path` is called and what it begins with.

    Raises `WeightsError` for a missing or unreadable file, another suffix, or other contents;
    the error shows the size and the first bytes.
    """
    head, size, shown = _look(path)
    suffix = path.suffix.lower()
    if suffix in _TORCH:
        why = f"PyTorch's format is a Python pickle, which could run code: {shown}"
        raise WeightsError(str(path), why, fix=_SAVE)
    stranger = next((is_a for start, is_a in _STRANGERS.items() if head.startswith(start)), "")
    if suffix not in _KINDS:
        why = f"{stranger or 'not weights this reads'}: {shown}"
        fix = "pass weights saved by Keras as .h5 or .keras, or .safetensors"
        raise WeightsError(str(path), why, fix=fix)
    again = "get the file again from its source"
    if size == 0:
        raise WeightsError(str(path), "an empty file: 0 bytes", fix=again)
    kind, called = _KINDS[suffix]
    if kind == _begins_as(head, size):
        return kind
    if kind == "hdf5" and head.startswith(_ZIP):
        again = "call it .keras, if Keras saved it"
    if kind == "safetensors" and head[8:9] == b"{":
        stranger = ""  # a length may begin with 0x80, as a pickle does
    raise WeightsError(str(path), f"{stranger or f'not {called}'}: {shown}", fix=again)


def _look(path: Path) -> tuple[bytes, int, str]:
    """The first bytes, the size, and both for an error."""
    try:
        if path.is_dir() or not path.exists():
            why = "a directory, not a file" if path.is_dir() else "no such file"
            fix = "pass a .h5, .keras or .safetensors file"
            raise WeightsError(f"weights {path}", why, fix=fix)
        with path.open("rb") as file:
            return file.read(32), path.stat().st_size, describe(path)
    except OSError as error:
        why = error.strerror or str(error)
        raise WeightsError(str(path), why, fix="check that the file may be read") from error


def _begins_as(head: bytes, size: int) -> str:
    if head.startswith(_HDF5):
        return "hdf5"
    if head.startswith(_ZIP):
        return "keras"
    # A header's length as 8 bytes, then the header, which is JSON.
    whole = head[8:9] == b"{" and int.from_bytes(head[:8], "little") + 8 <= size
    return "safetensors" if whole else ""
