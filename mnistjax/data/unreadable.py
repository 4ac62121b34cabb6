"""What people have and we do not read, by its first bytes: its name, and what to get instead."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mnistjax.data.mat import is_mat5
from mnistjax.data.plain import head, open_plain
from mnistjax.errors import DataError

_UNPACK = "unpack it and pass the directory"
_PICKLE = "Python pickle, which can run any program it holds"
_BINARY = "get the binary version (cifar-10-binary.tar.gz, cifar-100-binary.tar.gz), IDX or .npz"
_KINDS = (
    (0, b"MATLAB 7.3", "a .mat file of version 7.3 (HDF5)", "save it with -v7 in MATLAB"),
    (0, b"\x89HDF", "HDF5", "save the arrays as .npz"),
    (0, b"PAR1", "Parquet", "save the arrays as .npz, or the images as files"),
    (0, b"\x93NUMPY", "a single .npy array", "save images and labels together with np.savez"),
    (0, b"version https://git-lfs", "a git-lfs pointer, not the file", "run git lfs pull"),
    (0, b"\xfd7zXZ", "an .xz archive", _UNPACK),
    (0, b"BZh", "a .bz2 archive", _UNPACK),
    (0, b"7z\xbc\xaf", "a .7z archive", _UNPACK),
    (0, b"Rar!", "a .rar archive", _UNPACK),
)


def what_it_is(start: bytes) -> tuple[str, str] | None:
    """(what it is, what to do) for a file we do not read that starts so; None if unknown.

    >>> what_it_is(b"PAR1....")[0]
    'Parquet'
    """
    for at, magic, what, fix in _KINDS:
        if start[at : at + len(magic)] == magic:
            return what, fix
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return _PICKLE, _BINARY
    if start.startswith(b"PK\x03\x04") and b"/data.pkl" in start[:200]:
        return f"PyTorch's {_PICKLE}", "save the arrays as .npz, or get the IDX files"
    if start.lstrip()[:9].lower() in (b"<!doctype", b"<html>"):
        return "a web page, not the file", "download the file itself"
    if start.startswith(b"MATLAB") and not is_mat5(start):
        return "a .mat file of an unknown version", "save it with -v7 in MATLAB"
    return None


def refusal(path: Path, files: list[Path], readable: Sequence[str]) -> DataError:
    """The error for `path`, whose files (itself, if it is one) are nothing that can be read."""
    for file in files:
        if known := what_it_is(head(file)):
            return DataError(str(file), f"is {known[0]}", fix=known[1])
    if path.is_file():
        with open_plain(path) as file:  # which says why, if it cannot be read
            start = file.read(8).hex() or "nothing"
        why = f"starts with {start}: it is none of what can be read"
    else:
        why = f"neither IDX files nor sub-folders of images nor a data set in it{_seen(path)}"
    return DataError(f"`data_dir` {path}", why, fix=f"pass {', '.join(readable)}")


def _seen(directory: Path) -> str:
    entries = sorted(directory.iterdir())
    if not entries:
        return ": it is empty"
    names = [ascii(entry.name)[1:-1][:40] + "/" * entry.is_dir() for entry in entries]
    suffixes = Counter(entry.suffix.lower() for entry in entries if entry.is_file())
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    counts = ", ".join(
        f"{n:,} {suffix or 'without suffix'}" for suffix, n in suffixes.most_common(5)
    )
    return f", but {', '.join(names[:5])}{more}" + (f" ({counts})" if more and counts else "")
