"""HDF5 files of unknown origin: parsed in a process of their own, with limits.

libhdf5 "is not designed to handle maliciously crafted files safely" (its SECURITY.md): a damaged
one can crash or hang it, which no `try` in the same process survives.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from mnistjax.errors import WeightsError
from mnistjax.models.vgg16_table import Table
from mnistjax.weights.read import Reading
from mnistjax.weights.safetensors import read_safetensors

SECONDS = 60.0  # of wall clock; the limits of memory and CPU are in `_child`
CHILD = ("-P", "-m", "mnistjax.weights._child")
_KEPT = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")  # without them Python may not start


def parse(path: Path, wanted: Table | None = None) -> Reading:
    """`read_hdf5` in a child process; its result comes back as safetensors and is checked again.

    Raises the child's `WeightsError`, or one saying that the file "could not be parsed safely"
    if the child crashed, hung or ran into a limit. About half a second for starting Python.
    """
    with tempfile.TemporaryDirectory(prefix="mnistjax-weights-") as private:
        request = {"path": str(path.absolute()), "wanted": wanted, "directory": private}
        answer = Path(private, "answer.json")
        try:
            child = subprocess.run(
                [sys.executable, *CHILD],
                input=json.dumps(request).encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise _unsafe(path, f"no end after {SECONDS:.0f} s") from error
        except OSError as error:
            raise _unsafe(path, f"no process to do it in ({error.strerror})") from error
        if child.returncode != 0 or not answer.is_file():
            raise _unsafe(path, f"the process that read it ended with {child.returncode}")
        try:
            said = json.loads(answer.read_text(encoding="utf-8"))
            what, why, fix = said.get("error", ("", "", ""))
            ignored, layout = tuple(said.get("ignored", ())), said.get("layout", "")
            notes = tuple(said.get("notes", ()))
        except (ValueError, AttributeError, TypeError) as error:
            raise _unsafe(path, "the process that read it left no answer") from error
        if what:
            raise WeightsError(what, why, fix=fix)
        reading, _ = read_safetensors(Path(private, "tensors.safetensors"), wanted)
        return Reading(reading.params, ignored, layout, notes)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | {
        "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path),
        "HDF5_PLUGIN_PRELOAD": "::",  # no filter is loaded from outside
        "OPENBLAS_NUM_THREADS": "1",  # it reserves memory for each, out of the limit
        "PYTHONUTF8": "1",
    }


def _unsafe(path: Path, why: str) -> WeightsError:
    fix = "get the file again from a source you trust"
    return WeightsError(str(path), f"could not be parsed safely: {why}", fix=fix)
