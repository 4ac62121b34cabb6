"""The result files: one for each kind of machine, a job a key."""

import json
import re
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.registry import JOBS
from mnistjax.errors import DataError

RESULTS = ROOT / "benchmarks" / "results"


def slug(facts: dict[str, Any]) -> str:
    """A file name for results of this kind of machine.

    >>> slug({"platform": "cpu", "cpu": "AMD EPYC", "isa": ["avx2", "avx512f"], "threads": 2})
    'cpu-amd-epyc-avx512f-2-threads'
    """
    isa = widest(facts["isa"])
    name = facts["cpu"] if facts["platform"] == "cpu" else facts["device_kind"]
    words = f"{facts['platform']} {name} {isa} {facts['threads']} threads"
    return "-".join(re.findall(r"[a-z0-9]+", words.lower()))


def widest(isa: list[str]) -> str:
    """The vector instructions that count.

    >>> widest(["avx2", "avx512f", "fma"])
    'avx512f'
    """
    return next((name for name in ("avx512f", "avx2") if name in isa), "")


def save(
    job: str, environment: dict[str, Any], result: dict[str, Any], *, name: str | None = None
) -> Path:
    """Put `result` under `job` into the file `name`, by default this machine's; others stay."""
    path = RESULTS / f"{name or slug(environment)}.json"
    path.parent.mkdir(exist_ok=True)
    everything = json.loads(path.read_text()) if path.is_file() else {}
    everything[job] = {"environment": environment} | result
    path.write_text(json.dumps(everything, indent=1) + "\n")
    return path


def read(path: Path) -> dict[str, Any]:
    """One file's jobs; raise `DataError` if they are not there, or something else is."""
    fix = "pass a file of benchmarks/results/"
    try:
        file = json.loads(path.read_text())
    except OSError as error:
        raise DataError(str(path), error.strerror or "cannot be read", fix=fix) from error
    except ValueError as error:
        raise DataError(str(path), "is no JSON", fix=fix) from error
    if not isinstance(file, dict) or not all(
        isinstance(result, dict) and "environment" in result for result in file.values()
    ):
        raise DataError(str(path), "holds no results of benchmarks", fix=fix)
    return file


def read_all(directory: Path) -> dict[str, dict[str, Any]]:
    """Every machine's results by its file's name, jobs in the suite's order, others last."""
    order = [*JOBS]
    results = {}
    for path in sorted(directory.glob("*.json")):
        file = json.loads(path.read_text())
        jobs = sorted(file, key=lambda job: order.index(job) if job in order else len(order))
        results[path.stem] = {job: file[job] for job in jobs}
    return results
