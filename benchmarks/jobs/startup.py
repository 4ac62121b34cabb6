"""How long one waits before anything happens: `python -m benchmarks startup`.

Seconds of whole processes, from start to exit: an import, `--help`, and the first training step of
the small CNN, cold and with JAX's persistent compilation cache filled by an earlier run.
"""

import itertools
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from benchmarks import ROOT
from benchmarks.harness.cells import NOT_INSTALLED, interpreter, last_words, pin, quiet
from benchmarks.harness.job import BenchmarkConfig, asked_for, finish, machine_facts
from benchmarks.tables import screen

REPEATS = 3  # of every process in a round
ALL_CACHED = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


@dataclass(frozen=True)
class Start:
    """`python <arguments>` in `.venv-<venv>`; `warm`: with a filled compilation cache."""

    name: str
    arguments: tuple[str, ...]
    venv: str = ""
    packages: tuple[str, ...] = ("jax", "flax")
    warm: bool = False


def _imports(statement: str) -> tuple[str, ...]:
    return "-c", f"import {statement}"


def _step(program: str) -> tuple[str, ...]:
    return "-m", f"benchmarks.peers.{program}_first_step"


TORCH: Any = {"venv": "torch", "packages": ("torch",)}
KERAS: Any = {"venv": "tensorflow", "packages": ("keras", "tensorflow")}
GROUPS = {
    "import and help": (
        Start("mnistjax", _imports("mnistjax")),
        Start("mnistjax, with all it trains with", _imports("mnistjax as mj; mj.CNN, mj.fit")),
        Start("mnistjax, experiments.scratch --help", ("-m", "experiments.scratch", "--help")),
        Start("JAX, Flax and Optax", _imports("jax, flax.nnx, optax")),
        Start("PyTorch", _imports("torch"), **TORCH),
        Start("Keras 3 on TensorFlow", _imports("keras"), **KERAS),
    ),
    "first training step": (
        Start("mnistjax, cold", _step("ours")),
        Start("mnistjax, compilation cache warm", _step("ours"), warm=True),
        Start("JAX the usual way, cold", _step("jax_usual")),
        Start("JAX the usual way, cache warm", _step("jax_usual"), warm=True),
        Start("PyTorch", _step("torch"), **TORCH),
        Start("Keras 3 on TensorFlow", _step("keras"), **KERAS),
    ),
}


def main(config: BenchmarkConfig) -> int:
    """Time every process; the exit code is 0 also where peers are missing."""
    wanted = asked_for(config, [start for starts in GROUPS.values() for start in starts])
    machine = machine_facts(config)
    pin(config.threads)
    result = {}
    for title, starts in GROUPS.items():
        if chosen := [start for start in starts if start in wanted]:
            rows = _rows(title, chosen, config)
            result[title] = {"rows": rows}
            _print(f"{title}, {config.threads} threads", rows)
    return finish("startup", config, machine, result)


def _rows(title: str, starts: list[Start], config: BenchmarkConfig) -> dict[str, Any]:
    taken: dict[str, list[float]] = {start.name: [] for start in starts}
    gaps: dict[str, str] = {}
    turns = config.rounds * REPEATS
    with tempfile.TemporaryDirectory() as cache, screen.console.status(title) as status:
        for turn, start in itertools.product(range(turns), starts):
            if start.name in gaps:
                continue
            status.update(f"{title}: {turn + 1} of {turns}, {start.name}")
            try:
                if start.warm and not turn:
                    _run(start, cache, config.threads)
                taken[start.name].append(_run(start, cache, config.threads))
            except FileNotFoundError:
                gaps[start.name] = NOT_INSTALLED
            except subprocess.CalledProcessError as error:
                gaps[start.name] = last_words(error)
    return {
        start.name: {"status": "not run", "why": gaps[start.name]}
        if start.name in gaps
        else _summary(taken[start.name]) | {"versions": _versions(start)}
        for start in starts
    }


def _run(start: Start, cache: str, threads: int) -> float:
    more = quiet(threads) | {"KERAS_BACKEND": "tensorflow"}
    more |= {"JAX_ENABLE_COMPILATION_CACHE": str(start.warm)}
    more |= {"JAX_COMPILATION_CACHE_DIR": cache} | ALL_CACHED if start.warm else {}
    command = [str(interpreter(start.venv)), *start.arguments]
    environment = os.environ | more
    started = time.perf_counter()
    subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    return time.perf_counter() - started


def _summary(seconds: list[float]) -> dict[str, Any]:
    deciles = quantiles(seconds, n=10, method="inclusive") if len(seconds) > 1 else seconds * 9
    return {
        "status": "measured",
        "seconds": round(median(seconds), 3),
        "p10": round(deciles[0], 3),
        "p90": round(deciles[-1], 3),
        "n": len(seconds),
    }


# A package's distribution may have another name: tensorflow-cpu.
VERSIONS = """
import sys
from importlib.metadata import packages_distributions, version
names = packages_distributions()
print(*(version(names[name][0]) for name in sys.argv[1:]))
"""


def _versions(start: Start) -> dict[str, str]:
    command = [str(interpreter(start.venv)), "-c", VERSIONS, *start.packages]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(zip(start.packages, said.split(), strict=True))


def _print(title: str, rows: dict[str, Any]) -> None:
    table = screen.start_table(["program"], ["seconds", "p10 to p90", "n"], title=title)
    for name, row in rows.items():
        if row["status"] == "measured":
            spread = f"{row['p10']:.2f} to {row['p90']:.2f}"
            table.add_row(name, f"{row['seconds']:.2f}", spread, f"{row['n']}")
        else:
            table.add_row(name, "not run", row["why"], "")
    screen.console.print(table)
