"""Cells side by side: the rounds, the check that all compute the same, the rows."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.cells import Cell, run_cell, run_rounds
from benchmarks.harness.job import BenchmarkConfig, asked_for
from benchmarks.harness.peaks import bfloat16_peak
from benchmarks.harness.same import Facts, Same
from benchmarks.tables import screen
from benchmarks.tables.summary import ratio, summarise

PEAKS = ("gemm_gflops", "gemm_bf16_gflops", "copy_gb_per_s")
PEAK_OF = {"float32": "gemm_gflops", "bfloat16": "gemm_bf16_gflops"}


def measure_in_turn(
    config: BenchmarkConfig,
    title: str,
    cells: Sequence[Cell],
    *,
    problem: Callable[[Path], None],
    images: int,
    flops: float,
    same: Same,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Measure `cells` (the first is ours) on one problem; the rows and the machine's peaks.

    `same(ours, theirs)` says in a few words how two cells' facts differ, "" if they compute the
    same: a cell that computes something else gets no time. Raises `UsageError` if `--only` names
    none.
    """
    chosen = asked_for(config, cells)
    peaks, facts = collect(config, title, chosen, problem)
    first = facts[chosen[0].name][0]
    rows = {
        name: summarise(
            [_refused_unless_same(one, first, same) for one in got],
            images=images,
            flops=flops,
            peak_gflops=peaks.get(PEAK_OF[dtype]),
        )
        for name, got in facts.items()
    }
    _hold_against(rows, ours=chosen[0].name, tflops=bfloat16_peak(peaks.get("device_kind", "")))
    screen.print_rows(title, rows)
    return {"peaks": {k: peaks[k] for k in PEAKS if k in peaks}, "rows": rows}


def collect(
    config: BenchmarkConfig, title: str, cells: Sequence[Cell], problem: Callable[[Path], None]
) -> tuple[Facts, dict[str, list[Facts]]]:
    """The machine's peaks, and the facts that each cell said, by its name, of every round."""
    facts: dict[str, list[Facts]] = {cell.name: [] for cell in cells}
    with tempfile.TemporaryDirectory() as directory, screen.console.status(title) as status:
        path = Path(directory) / "problem.npz"
        problem(path)
        status.update(f"{title}: peaks of this machine")
        peaks = run_cell(Cell("peaks", "this_machine"), path, threads=config.threads)
        turns = run_rounds(cells, path, threads=config.threads, rounds=config.rounds)
        for number, cell, said in turns:
            facts[cell.name].append(said)
            status.update(f"{title}: round {number + 1} of {config.rounds}, {cell.name}")
    return peaks, facts


def _refused_unless_same(theirs: Facts, ours: Facts, same: Same) -> Facts:
    if "missing" in theirs or "missing" in ours or not (difference := same(ours, theirs)):
        return theirs
    return {"missing": f"refused, it computes something else: {difference}"}


def _hold_against(rows: dict[str, Any], *, ours: str, tflops: float | None) -> None:
    """Add to each row its share of the device's peak, and how many times faster `ours` is."""
    for name, row in rows.items():
        if "gflops" in row and tflops:
            row["mfu_percent"] = round(row["gflops"] / tflops / 10, 1)
        if name != ours and (times := ratio(rows[ours], row)):
            row["ours_is"] = times
