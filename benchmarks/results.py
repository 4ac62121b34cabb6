"""From the cells' reports to a table on the screen and one JSON file per machine."""

import json
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from rich.table import Table

from benchmarks.environment import ROOT, slug

RESULTS = ROOT / "benchmarks" / "results"
NOISY_LOAD = 0.5


def summarise(
    reports: list[dict[str, Any]], *, images: int, flops: float, peak_gflops: float | None
) -> dict[str, Any]:
    """One row: images/s as median, p10, p90 over all windows of all rounds; or why there is none.

    `flops` are those of one image; % of limit is against the same run's matrix product, and can
    pass 100 since Winograd needs fewer multiplications than the definition counts. A report's
    `share` is the part of `flops` that its program does at all, 1 by default.
    """
    if not reports or "missing" in reports[-1]:
        return {"status": "not run", "why": reports[-1]["missing"] if reports else "not asked"}
    rates = sorted(images / w for report in reports for w in report["windows"])
    deciles = quantiles(rates, n=10) if len(rates) > 1 else rates * 9
    middle = median(rates)
    row = {
        "status": "measured",
        "images_per_second": round(middle, 1),
        "p10": round(max(deciles[0], rates[0]), 1),  # of few windows `quantiles` extrapolates
        "p90": round(min(deciles[-1], rates[-1]), 1),
        "n": len(rates),
        "rounds": [round(images / median(r["windows"]), 1) for r in reports],
        "first_seconds": round(median(r["first_seconds"] for r in reports), 2),
        "peak_mib": max(r["peak_mib"] for r in reports),
        "versions": reports[-1]["versions"],
    }
    if flops:
        row["gflops"] = round(middle * flops * reports[-1].get("share", 1) / 1e9, 1)
        if peak_gflops:
            row["percent_of_gemm_peak"] = round(100 * row["gflops"] / peak_gflops)
    if "temp_mib" in reports[-1]:
        row["temp_mib"] = round(reports[-1]["temp_mib"], 1)
    for name in ("steady_seconds", "job_seconds"):
        if name in reports[-1]:
            row[name] = round(median(report[name] for report in reports), 2)
    return row


def ratio(ours: dict[str, Any], theirs: dict[str, Any]) -> float | None:
    """How many times faster we are: the median over rounds, each round's cells run in turn."""
    if "rounds" not in ours or "rounds" not in theirs:
        return None
    pairs = zip(ours["rounds"], theirs["rounds"], strict=False)
    return round(median(a / b for a, b in pairs), 2)


def show(title: str, rows: dict[str, dict[str, Any]]) -> Table:
    """The rows as a table, the fastest first, cells that did not run last."""
    table = Table("program", title=title, title_justify="left")
    for heading in ("images/s", "p10 to p90", "ours is", "first step s", "peak MiB", "% of GEMM"):
        table.add_column(heading, justify="right")
    done = {n: r for n, r in rows.items() if r["status"] == "measured"}
    for name, row in sorted(done.items(), key=lambda item: -item[1]["images_per_second"]):
        times = row.get("ours_is")
        table.add_row(
            name,
            f"{row['images_per_second']:,.1f}",
            f"{row['p10']:,.1f} to {row['p90']:,.1f}",
            "" if times is None else f"{times:.2f} x",
            f"{row['first_seconds']:.1f}",
            f"{row['peak_mib']:,}",
            f"{row.get('percent_of_gemm_peak', '')}",
        )
    for name, row in rows.items():
        if name not in done:
            table.add_row(name, "not run", row["why"], "", "", "", "")
    return table


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
