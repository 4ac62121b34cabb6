"""What a trained network is exported as, and what each form needs; nothing here imports jax."""

from importlib.util import find_spec
from pathlib import Path

from mnistjax.errors import StorageError, UsageError
from mnistjax.runs.directory import ARCHIVE

NEEDS = {"stablehlo": "flatbuffers", "onnx": "onnx", "safetensors": "safetensors"}
"""Format, which is also the suffix of its files -> the package that writes it."""
FORMATS = (*NEEDS,)


def check_format(format: str) -> None:
    """Raise `UsageError` if `format` is none of `FORMATS`, or its package is not installed."""
    UsageError.unless_in("`format`", format, FORMATS)
    if find_spec(NEEDS[format]) is None:
        why = f"the package {NEEDS[format]} is not installed"
        raise UsageError(f"`format` {format}", why, fix="pip install 'mnistjax[export]'")


def output_of(run: Path, format: str, output: Path | None, *, force: bool) -> Path:
    """`output`, by default model.`format` beside the archive of `run`.

    Raises `UsageError` where that would replace the archive itself, and `StorageError` where a
    file is already there, unless with `force`, or no file can be.

    >>> output_of(Path("runs/a"), "onnx", None, force=False).as_posix()
    'runs/a/model.onnx'
    """
    archive = run if run.is_file() else run / ARCHIVE
    path = output or archive.with_name(f"model.{format}")
    if path.absolute() == archive.absolute() or (path.exists() and path.samefile(archive)):
        what = f"`output` {path}" if output else f"`format` {format}"
        why = f"{archive} is that file already"
        raise UsageError(what, why, fix="pass another `output` to copy it to")
    if path.is_dir():
        raise StorageError(f"`output` {path}", "is a directory", fix="pass a file in it")
    if path.exists() and not force:
        fix = "pass another `output`, or `force=True` to replace it"
        raise StorageError(f"`output` {path}", "is there already", fix=fix)
    parent = next(above for above in path.absolute().parents if above.exists())
    if not parent.is_dir():
        raise StorageError(f"`output` {path}", f"{parent} is a file", fix="pass another `output`")
    return path
