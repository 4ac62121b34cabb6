"""Cells side by side: the rounds, the check that all compute the same, the table, the file."""

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import numpy as np
import tyro
from rich.console import Console

from benchmarks.cells import Cell, run_cell, run_rounds
from benchmarks.environment import environment, load
from benchmarks.limits import bfloat16_peak
from benchmarks.results import NOISY_LOAD, ratio, save, show, summarise
from mnistjax.cli import Config
from mnistjax.errors import UsageError
from mnistjax.platforms import PLATFORMS

PEAKS = ("gemm_gflops", "gemm_bf16_gflops", "copy_gb_per_s")
console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 110)


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(Config):
    rounds: int = 3
    """Each cell is measured so many times, in turn with the others."""
    threads: int = 2
    """Cores that every cell may use."""
    platform: Annotated[str | None, tyro.conf.arg(metavar="|".join(PLATFORMS))] = None
    """Device kind that the cells compute on; default: the best there is."""
    only: tuple[str, ...] = ()
    """Cells to run, by their names; default: all."""
    save: bool = True
    """Write the figures to benchmarks/results/."""

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        UsageError.unless_in("--platform", self.platform or "cpu", PLATFORMS)
        for name in ("rounds", "threads"):
            if getattr(self, name) < 1:
                flag = f"--{name} {getattr(self, name)}"
                raise UsageError(flag, "must be at least 1", fix=f"pass --{name} 2")


def compare(
    config: BenchmarkConfig,
    title: str,
    cells: Sequence[Cell],
    *,
    problem: Callable[[Path], None],
    images: int,
    flops: float,
    same: Callable[[dict[str, Any], dict[str, Any]], str],
    dtype: str = "float32",
) -> dict[str, Any]:
    """Measure `cells` (the first is ours) on one problem; the rows and the machine's peaks.

    `same(ours, theirs)` says in a few words how two reports differ, "" if they compute the same:
    a cell that computes something else gets no time. Raises `UsageError` if `--only` names none.
    """
    chosen = asked_for(config, cells)
    peaks, reports = in_turn(config, title, chosen, problem)
    first = reports[chosen[0].name][0]
    for got in reports.values():
        got[:] = [_refused_unless_same(report, first, same) for report in got]
    peak = peaks.get({"float32": "gemm_gflops", "bfloat16": "gemm_bf16_gflops"}[dtype])
    rows = {
        name: summarise(got, images=images, flops=flops, peak_gflops=peak)
        for name, got in reports.items()
    }
    for row in rows.values():
        if "gflops" in row and (tflops := bfloat16_peak(peaks.get("device_kind", ""))):
            row["mfu_percent"] = round(row["gflops"] / tflops / 10, 1)
    ours = rows[chosen[0].name]
    for name, row in rows.items():
        if name != chosen[0].name and (times := ratio(ours, row)):
            row["ours_is"] = times
    console.print(show(title, rows))
    return {"peaks": {k: peaks[k] for k in PEAKS if k in peaks}, "rows": rows}


def _refused_unless_same(
    report: dict[str, Any], ours: dict[str, Any], same: Callable[..., str]
) -> dict[str, Any]:
    if "missing" in report or "missing" in ours or not (difference := same(ours, report)):
        return report
    return {"missing": f"refused, it computes something else: {difference}"}


def in_turn(
    config: BenchmarkConfig, title: str, cells: Sequence[Cell], problem: Callable[[Path], None]
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """The machine's peaks, and what each cell reported, by its name, a report a round."""
    reports: dict[str, list[dict[str, Any]]] = {cell.name: [] for cell in cells}
    with tempfile.TemporaryDirectory() as directory, console.status(title) as status:
        path = Path(directory) / "problem.npz"
        problem(path)
        status.update(f"{title}: peaks of this machine")
        peaks = run_cell(Cell("peaks", "peaks"), path, threads=config.threads)
        turns = run_rounds(cells, path, threads=config.threads, rounds=config.rounds)
        for number, cell, report in turns:
            reports[cell.name].append(report)
            status.update(f"{title}: round {number + 1} of {config.rounds}, {cell.name}")
    return peaks, reports


class Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)


def asked_for(config: BenchmarkConfig, cells: Sequence[N]) -> list[N]:
    """The cells that `--only` leaves; raise `UsageError` if it names none of them."""
    chosen = [cell for cell in cells if not config.only or cell.name in config.only]
    if not chosen:
        UsageError.unless_in("--only", config.only[0], [cell.name for cell in cells])
    return chosen


def finish(job: str, config: BenchmarkConfig, facts: dict[str, Any], result: dict[str, Any]) -> int:
    """Say how quiet the machine was, and write the file."""
    if (facts["load_before"] or 0) > NOISY_LOAD:
        note = f"load {facts['load_before']} before the run: other work may have slowed it"
        console.print(f"[bold yellow]NOTE[/]  {note}", highlight=False)
    if config.save and not config.only:
        path = save(job, facts | {"load_after": load()}, result)
        console.print(f"written to benchmarks/results/{path.name}", highlight=False)
    return 0


def facts(config: BenchmarkConfig) -> dict[str, Any]:
    """The environment, read before anything runs."""
    return environment(threads=config.threads, on=config.platform)


def same_features(ours: dict[str, Any], theirs: dict[str, Any], *, tolerance: float = 1e-3) -> str:
    """Channel means of the features agree to `tolerance` of their norm."""
    a, b = np.array(ours["checks"]), np.array(theirs["checks"])
    error = float(np.linalg.norm(a - b) / np.linalg.norm(a))
    return "" if error < tolerance else f"features differ by {error:.1e}"


def same_losses(
    ours: dict[str, Any], theirs: dict[str, Any], *, first: float = 1e-4, last: float = 0.02
) -> str:
    """The first loss agrees to 1e-4, the last to 2 %: Keras places Adam's epsilon elsewhere."""
    start, end = (abs(ours["losses"][i] / theirs["losses"][i] - 1) for i in (0, -1))
    return "" if start < first and end < last else f"losses differ by {start:.1e}, {end:.1e}"
