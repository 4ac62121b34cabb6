"""Seconds of training until 98, 99 and 99.5 % of the held-out digits of MNIST are right.

    python -m benchmarks time_to_accuracy --data-dir DIR

The recipe of `experiments.scratch --preset keras`: 54,000 images, batch 128, Adam 1e-3, 5 epochs.
Every `--every` steps the 6,000 validation images are scored, off the clock; the test set is not
looked at. Each seed has a split, first parameters and order of its own, and a process of its own.
The figure is the median over seeds, and there is none where half of them never got there.
"""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import tyro

from benchmarks.harness.cells import Cell, pin, run_cell
from benchmarks.harness.job import BenchmarkConfig, asked_for, finish, machine_facts
from benchmarks.harness.problems import mnist_problem
from benchmarks.harness.same import Facts
from benchmarks.tables import screen
from benchmarks.tables.rows import not_run
from mnistjax.errors import UsageError

TARGETS = (0.98, 0.99, 0.995)
CELLS = (
    Cell("mnistjax", "ours_time_to_accuracy"),
    Cell("PyTorch", "torch_time_to_accuracy", venv="torch"),
    Cell("JAX the usual way", "jax_usual_time_to_accuracy"),
)


@dataclass(frozen=True, kw_only=True)
class JobConfig(BenchmarkConfig):
    """Time to accuracy on the real MNIST."""

    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """MNIST's four IDX files, .gz or plain."""
    rounds: int = 3
    """Seeds, from 0 on."""
    epochs: int = 5
    """Passes over the training images, after which a seed has not got there."""
    every: int = 50
    """Steps between two evaluations."""

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        super().validate()
        for name in ("epochs", "every"):
            if getattr(self, name) < 1:
                flag = f"--{name} {getattr(self, name)}"
                raise UsageError(flag, "must be at least 1", fix=f"pass --{name} 5")


def main(config: JobConfig) -> int:
    """Measure every cell with every seed; without MNIST it is a gap, and the exit code is 0."""
    if config.data_dir is None:
        screen.note("time_to_accuracy: not run, it needs MNIST. Fix: pass --data-dir DIR")
        return 0
    machine = machine_facts(config)
    pin(config.threads)
    facts = collect_seeds(config, config.data_dir, asked_for(config, CELLS))
    result = {
        f"to {100 * target:g} %": {"rows": summarise_target(facts, number)}
        for number, target in enumerate(TARGETS)
    }
    for target, group in result.items():
        _print(f"seconds {target}, {config.threads} threads", group["rows"])
    return finish("time_to_accuracy", config, machine, result | {"every": config.every})


def collect_seeds(config: JobConfig, data_dir: Path, cells: list[Cell]) -> dict[str, list[Facts]]:
    """What each cell said, by its name, of every seed."""
    facts: dict[str, list[Facts]] = {cell.name: [] for cell in cells}
    with tempfile.TemporaryDirectory() as directory, screen.console.status("MNIST") as status:
        path = Path(directory) / "problem.npz"
        for seed in range(config.rounds):
            mnist_problem(path, data_dir=data_dir, seed=seed)
            for cell in cells:
                status.update(f"seed {seed} of {config.rounds}, {cell.name}")
                words = (str(seed), str(config.epochs), str(config.every), *map(str, TARGETS))
                asked = Cell(cell.name, cell.program, words, cell.venv)
                said = run_cell(asked, path, threads=config.threads, seconds=600)
                facts[cell.name].append(said)
    return facts


def summarise_target(facts: dict[str, list[Facts]], number: int) -> dict[str, Any]:
    """The rows of one target, each over its seeds; a seed that missed it counts as infinite.

    >>> facts = {"a": [{"reached": [s], "compile_seconds": 2.0, "versions": {}} for s in (3, 4)]}
    >>> summarise_target(facts, 0)["a"]["seconds"]
    3.5
    """
    return {name: _row(said, number) for name, said in facts.items()}


def _row(said: list[Facts], number: int) -> dict[str, Any]:
    if gap := not_run(said):
        return gap
    reached = [seed["reached"][number] for seed in said]
    times = sorted(math.inf if seconds is None else seconds for seconds in reached)
    finite = [seconds for seconds in times if seconds < math.inf]
    row = {"status": "measured", "n": len(said), "seeds_that_reached_it": len(finite)}
    if math.isfinite(middle := median(times)):
        # Of a few seeds the extremes stand for the deciles.
        row |= {"seconds": round(middle, 2), "p10": round(times[0], 2), "p90": round(finite[-1], 2)}
        compiling = median(seed["compile_seconds"] for seed in said)
        row["with_compiling"] = round(middle + compiling, 2)
    return row | {"versions": said[-1]["versions"]}


def _print(title: str, rows: dict[str, Any]) -> None:
    headings = ["seconds", "with compiling", "seeds that reached it"]
    table = screen.start_table(["program"], headings, title=title)
    for name, row in rows.items():
        if row["status"] == "not run":
            table.add_row(name, "not run", row["why"], "")
            continue
        seconds, whole = (f"{row.get(key, 'never')}" for key in ("seconds", "with_compiling"))
        table.add_row(name, seconds, whole, f"{row['seeds_that_reached_it']} of {row['n']}")
    screen.console.print(table)
