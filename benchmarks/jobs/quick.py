"""The recipe for 99 % of MNIST in the least time, as a whole process: start, data, compiling, all.

    python -m benchmarks quick --data-dir DIR --rounds 10

One epoch of 54,000 images in batches of 64, Adam at 0.005 on a one-cycle cosine, labels smoothed by
0.05: `experiments.scratch --preset quick` as anyone runs it, checkpoints and report included, after
one run that compiled its programs; and the same recipe written out in PyTorch, which gets its
arrays in one file, scores the test images, and does nothing else. A seed a round, to both the same
split and first parameters. Seconds are of the clock, from before the interpreter starts to its end.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Annotated, Any

import numpy as np
import tyro

from benchmarks.harness.cells import Cell, pin, run_cell
from benchmarks.harness.job import BenchmarkConfig, asked_for, finish, machine_facts
from benchmarks.harness.problems import mnist_problem
from benchmarks.harness.same import Facts
from benchmarks.tables import screen
from benchmarks.tables.rows import not_run

CELLS = (Cell("mnistjax", "ours_quick"), Cell("PyTorch", "torch_quick", venv="torch"))
PARTS = {"whole process": "whole_seconds", "training alone": "train_seconds"}


@dataclass(frozen=True, kw_only=True)
class JobConfig(BenchmarkConfig):
    """One epoch for 99 %, the whole process."""

    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """MNIST's four IDX files, .gz or plain."""
    rounds: int = 3
    """Seeds, from 0 on."""


def main(config: JobConfig) -> int:
    """Measure both with every seed; without MNIST it is a gap, and the exit code is 0."""
    if config.data_dir is None:
        screen.note("quick: not run, it needs MNIST. Fix: pass --data-dir DIR")
        return 0
    machine = machine_facts(config)
    pin(config.threads)
    facts = collect(config, config.data_dir.absolute(), asked_for(config, CELLS))
    result = {part: {"rows": summarise(facts, key)} for part, key in PARTS.items()}
    for part, group in result.items():
        _print(f"seconds, {part}, {config.threads} threads", group["rows"])
    return finish("quick", config, machine, result)


def collect(config: JobConfig, data_dir: Path, cells: list[Cell]) -> dict[str, list[Facts]]:
    """What each cell said, by its name, of every seed; before that ours compiled once."""
    facts: dict[str, list[Facts]] = {cell.name: [] for cell in cells}
    with tempfile.TemporaryDirectory() as place, screen.console.status("MNIST") as status:
        path = Path(place) / "problem.npz"
        for seed in (-1, *range(config.rounds)):
            mnist_problem(path, data_dir=data_dir, seed=max(seed, 0), with_test=True)
            for cell in cells if seed >= 0 else [c for c in cells if not c.venv]:
                status.update(f"seed {seed} of {config.rounds}, {cell.name}")
                asked = Cell(cell.name, cell.program, (str(data_dir), str(max(seed, 0))), cell.venv)
                began = time.perf_counter()
                said = run_cell(asked, path, threads=config.threads, seconds=600)
                if seed >= 0:
                    facts[cell.name].append({"whole_seconds": time.perf_counter() - began} | said)
    return facts


def summarise(facts: dict[str, list[Facts]], key: str) -> dict[str, Any]:
    """The rows of one part, each over its seeds.

    >>> said = [{"whole_seconds": s, "accuracy": 0.99, "versions": {}} for s in (3.0, 5.0, 4.0)]
    >>> summarise({"a": said}, "whole_seconds")["a"]["seconds"]
    4.0
    """
    return {name: _row(said, key) for name, said in facts.items()}


def _row(said: list[Facts], key: str) -> dict[str, Any]:
    if gap := not_run(said):
        return gap
    seconds, accuracies = ([seed[name] for seed in said] for name in (key, "accuracy"))
    return {
        "status": "measured",
        "n": len(said),
        "seconds": round(median(seconds), 2),
        "p10": round(float(np.quantile(seconds, 0.1)), 2),
        "p90": round(float(np.quantile(seconds, 0.9)), 2),
        "test_accuracy": round(mean(accuracies), 5),
        "test_accuracy_sd": round(stdev(accuracies), 5) if len(said) > 1 else None,
        "versions": said[-1]["versions"],
    }


def _print(title: str, rows: dict[str, Any]) -> None:
    table = screen.start_table(["program"], ["seconds", "test accuracy", "seeds"], title=title)
    for name, row in rows.items():
        if row["status"] == "not run":
            table.add_row(name, "not run", row["why"], "")
            continue
        table.add_row(name, f"{row['seconds']}", f"{row['test_accuracy']:.2%}", f"{row['n']}")
    screen.console.print(table)
