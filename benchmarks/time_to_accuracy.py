"""Seconds of training until 98, 99 and 99.5 % of the held-out digits of MNIST are right.

    python -m benchmarks.time_to_accuracy --data-dir DIR

The recipe of `experiments.scratch`: 54,000 images, batch 128, Adam 1e-3, 5 epochs. Every `--every`
steps the 6,000 validation images are scored, off the clock; the test set is not looked at. Each
seed has a split, first parameters and order of its own, and a process of its own. The figure is
the median over seeds, and there is none where half of them never got there.
"""

import math
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import tyro
from rich.table import Table

from benchmarks.cells import Cell, pin, run_cell
from benchmarks.compare import BenchmarkConfig, asked_for, console, facts, finish
from benchmarks.problems import mnist_problem
from mnistjax import cli
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
        note = "time_to_accuracy: not run, it needs MNIST. Fix: pass --data-dir DIR"
        console.print(f"[bold yellow]NOTE[/]  {note}", highlight=False)
        return 0
    machine = facts(config)
    pin(config.threads)
    chosen = asked_for(config, CELLS)
    reports: dict[str, list[dict[str, Any]]] = {cell.name: [] for cell in chosen}
    with tempfile.TemporaryDirectory() as directory, console.status("MNIST") as status:
        path = Path(directory) / "problem.npz"
        for seed in range(config.rounds):
            mnist_problem(path, data_dir=config.data_dir, seed=seed)
            for cell in chosen:
                status.update(f"seed {seed} of {config.rounds}, {cell.name}")
                words = (str(seed), str(config.epochs), str(config.every), *map(str, TARGETS))
                asked = Cell(cell.name, cell.program, words, cell.venv)
                report = run_cell(asked, path, threads=config.threads, seconds=600)
                reports[cell.name].append(report)
    summary = partial(summarise_target, reports)
    result = {f"to {100 * target:g} %": {"rows": summary(i)} for i, target in enumerate(TARGETS)}
    for target, group in result.items():
        console.print(_show(f"seconds {target}, {config.threads} threads", group["rows"]))
    return finish("time_to_accuracy", config, machine, result | {"every": config.every})


def summarise_target(reports: dict[str, list[dict[str, Any]]], number: int) -> dict[str, Any]:
    """The rows of one target, each over its seeds; a seed that missed it counts as infinite.

    >>> reports = {"a": [{"reached": [s], "compile_seconds": 2.0, "versions": {}} for s in (3, 4)]}
    >>> summarise_target(reports, 0)["a"]["seconds"]
    3.5
    """
    rows: dict[str, Any] = {}
    for name, got in reports.items():
        gap = next((report["missing"] for report in got if "missing" in report), None)
        if gap or not got:
            rows[name] = {"status": "not run", "why": gap or "not asked"}
            continue
        times = sorted(
            math.inf if r["reached"][number] is None else r["reached"][number] for r in got
        )
        finite = [t for t in times if t < math.inf]
        row = {"status": "measured", "n": len(got), "seeds_that_reached_it": len(finite)}
        if math.isfinite(middle := median(times)):
            # Of a few seeds the extremes stand for the deciles.
            row |= {"seconds": round(middle, 2), "p10": round(times[0], 2)}
            row |= {"p90": round(finite[-1], 2)}
            row["with_compiling"] = round(middle + median(r["compile_seconds"] for r in got), 2)
        rows[name] = row | {"versions": got[-1]["versions"]}
    return rows


def _show(title: str, rows: dict[str, Any]) -> Table:
    table = Table("program", title=title, title_justify="left")
    for heading in ("seconds", "with compiling", "seeds that reached it"):
        table.add_column(heading, justify="right")
    for name, row in rows.items():
        if row["status"] == "not run":
            table.add_row(name, "not run", row["why"], "")
            continue
        seconds, whole = (row.get(key, "never") for key in ("seconds", "with_compiling"))
        table.add_row(
            name, f"{seconds}", f"{whole}", f"{row['seeds_that_reached_it']} of {row['n']}"
        )
    return table


if __name__ == "__main__":
    sys.exit(cli.run(JobConfig, main))
