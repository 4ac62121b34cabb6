"""A cell is one program with one way of running it, measured in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import ROOT

NOT_INSTALLED = "not installed: make bench-peers"


@dataclass(frozen=True)
class Cell:
    """`python -m benchmarks.peers.<program> PROBLEM <arguments> THREADS`, in `.venv-<venv>`.

    `venv` "" is this Python. Peers' environments are made by `make bench-peers`.
    """

    name: str
    program: str
    arguments: tuple[str, ...] = ()
    venv: str = ""

    @property
    def python(self) -> Path:
        """The interpreter that runs it."""
        return interpreter(self.venv)


def interpreter(venv: str) -> Path:
    """The Python of `.venv-<venv>`; of "" this one."""
    return ROOT / f".venv-{venv}" / "bin" / "python" if venv else Path(sys.executable)


def run_cell(cell: Cell, problem: Path, *, threads: int, seconds: float = 300) -> dict[str, Any]:
    """What the cell reports; `{"missing": reason}` where it cannot run: a gap, not a failure."""
    if not cell.python.is_file():
        return {"missing": NOT_INSTALLED}
    command = [str(cell.python), "-m", f"benchmarks.peers.{cell.program}", str(problem)]
    command += [*cell.arguments, str(threads)]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | quiet(threads),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=True,
        )
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"missing": f"no result within {seconds:.0f} s"}
    except subprocess.CalledProcessError as error:
        return {"missing": last_words(error)}


def quiet(threads: int) -> dict[str, str]:
    """The variables with which a process keeps to `threads` and says nothing but its facts."""
    return {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": str(threads), "NPROC": str(threads)}


def last_words(error: subprocess.CalledProcessError) -> str:
    """Why a process failed: the last line that it wrote to stderr."""
    last = (error.stderr.strip().splitlines() or ["no message"])[-1]
    return f"failed: {last[:200]}"


def pin(threads: int) -> None:
    """Keep to so many cores; children inherit it: equal threads for everybody."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))[:threads]
        os.sched_setaffinity(0, cores)


def run_rounds(
    cells: Sequence[Cell], problem: Path, *, threads: int, rounds: int
) -> Iterator[tuple[int, Cell, dict[str, Any]]]:
    """Every cell once a round, in turn: a slow minute of the machine hits all of them alike.

    Each report is yielded as it comes; a cell that was missing is not asked again.
    """
    pin(threads)
    missing = set()
    for number in range(rounds):
        for cell in cells:
            if cell not in missing:
                result = run_cell(cell, problem, threads=threads)
                if "missing" in result:
                    missing.add(cell)
                yield number, cell, result
