"""`export`: a finished run as a file for others: StableHLO, ONNX, or the archive itself."""

from pathlib import Path
from typing import NamedTuple

from mnistjax.disk import storage_errors, write_whole
from mnistjax.errors import UsageError
from mnistjax.files import versions
from mnistjax.inference.classifier import archive_path
from mnistjax.inference.export_formats import check_format, output_of
from mnistjax.runs.archive import Archive, read_archive
from mnistjax.runs.run import Run
from mnistjax.runs.train import Model


class Exported(NamedTuple):
    """A file written, and what its reader has to know."""

    path: Path
    signature: str
    class_names: tuple[str, ...]
    notes: list[str]
    use: str
    """Lines of Python that compute `probabilities` from uint8 `images`."""

    def __str__(self) -> str:
        size = f"{self.path.stat().st_size / 1e6:,.1f} MB"
        named = [name if name.isprintable() else ascii(name) for name in self.class_names[:20]]
        names = ", ".join(named) + (", ..." if self.class_names[20:] else "")
        lines = [f"{self.path} · {size}", self.signature, f"classes: {names}", *self.notes]
        return "\n".join([*lines, "", *(f"    {line}" for line in self.use.splitlines())])


def export(
    run: Run | Path | str,
    format: str,
    output: Path | str | None = None,
    *,
    model: Model | None = None,
    force: bool = False,
) -> Exported:
    """Write a finished run, or its model.safetensors, as `format`: stablehlo, onnx or safetensors.

    The file takes uint8 images [n, height, width, channels] of the shape that was trained on, as
    `Classifier.see` makes them, for any n, and gives probabilities float32 [n, classes]; what
    comes between is inside. `output` is by default model.<format> in the run. `model` as for
    `load`: StableHLO of a network of one's own needs it, ONNX does not know such. Raises
    `UsageError` for what cannot be written, `StorageError` for a damaged run or a file that is
    already there, unless with `force`.

    >>> export("nowhere", "onxx")
    Traceback (most recent call last):
    mnistjax.errors.UsageError: `format` onxx: not one of stablehlo, onnx, safetensors. Fix: did you mean onnx?
    """  # noqa: E501
    check_format(format)
    if model is not None and format != "stablehlo":
        why = "only StableHLO is made from it"
        raise UsageError(f"`model` with `format` {format}", why, fix="drop `model`")
    source = archive_path(run)
    path = output_of(source, format, Path(output) if output else None, force=force)
    archive = read_archive(source)
    content = _content(format, source, archive, model)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    if format == "safetensors":
        read_archive(path)
    names = tuple(archive.about["class_names"])
    return Exported(path, _signature(archive), names, _notes(format, archive), _use(format, path))


def _content(format: str, source: Path, archive: Archive, model: Model | None) -> bytes:
    about = archive.about | {"signature": _signature(archive), "exported_with": versions()}
    if format == "stablehlo":
        from mnistjax.inference.export_stablehlo import to_stablehlo

        return to_stablehlo(archive, about, model)
    if format == "onnx":
        from mnistjax.inference.export_onnx import to_onnx

        return to_onnx(archive, about)
    return source.read_bytes()


def _signature(archive: Archive) -> str:
    shape = ", ".join(map(str, archive.about["images"]["shape"]))
    classes = len(archive.about["class_names"])
    return f"images: uint8 [n, {shape}] -> probabilities: float32 [n, {classes}], any n"


def _notes(format: str, archive: Archive) -> list[str]:
    notes = []
    if format == "stablehlo":
        notes.append(
            "for cpu, cuda and tpu; JAX reads it for 6 months after its own release, in fact often"
            " longer: what lasts is model.safetensors"
        )
    if format == "onnx" and archive.about["network"].get("dtype") == "bfloat16":
        notes.append("the run computed in bfloat16, this file computes in float32")
    return notes


def _use(format: str, path: Path) -> str:
    file = repr(str(path))
    return {
        "stablehlo": f"""\
import jax.export, pathlib
network = jax.export.deserialize(bytearray(pathlib.Path({file}).read_bytes()))
probabilities = network.call(images)""",
        "onnx": f"""\
import onnxruntime
network = onnxruntime.InferenceSession({file})
(probabilities,) = network.run(["probabilities"], {{"images": images}})""",
        "safetensors": f"""\
import mnistjax as mj
network = mj.load({file})
probabilities = network.predict(images).probabilities""",
    }[format]
