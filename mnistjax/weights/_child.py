"""The process that `sandbox.parse` starts: takes its limits first, then reads one file."""

import json
import sys
from contextlib import suppress
from pathlib import Path

MEMORY = 2 * 2**30  # bytes of address space: four times what float64 VGG16 needs, libraries too
CPU_SECONDS = 45
FILE_BYTES = 2**28


def limit() -> None:
    """Bound memory, CPU time and written files, where the system can."""
    try:
        import resource
    except ImportError:  # Windows: the wall clock of the parent has to do
        return
    wanted = {
        resource.RLIMIT_AS: MEMORY,
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: FILE_BYTES,
    }
    for kind, value in wanted.items():
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        with suppress(ValueError, OSError):  # macOS refuses RLIMIT_AS
            resource.setrlimit(kind, (value, value))


def main() -> None:
    """Read the request from stdin; leave `answer.json`, and tensors if all went well."""
    limit()
    request = json.load(sys.stdin)

    from mnistjax.errors import WeightsError
    from mnistjax.weights.read import read_hdf5
    from mnistjax.weights.safetensors import write_safetensors

    directory = Path(request["directory"])
    wanted = request["wanted"]
    if wanted is not None:  # JSON has no tuples
        wanted = {
            layer: {role: tuple(shape) for role, shape in of.items()}
            for layer, of in wanted.items()
        }
    try:
        read = read_hdf5(Path(request["path"]), wanted)
        target = directory / "tensors.safetensors"
        write_safetensors(target, read.params, source_sha256="", origin="")
        answer = {"ignored": read.ignored, "layout": read.layout, "notes": read.notes}
    except WeightsError as error:
        answer = {"error": [error.what, error.why, error.fix]}
    (directory / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
