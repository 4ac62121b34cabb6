"""From what a cell said in every round to one row."""

from statistics import median, quantiles
from typing import Any


def summarise(
    said: list[dict[str, Any]], *, images: int, flops: float, peak_gflops: float | None
) -> dict[str, Any]:
    """One row: images/s as median, p10, p90 over all windows of all rounds; or why there is none.

    `flops` are those of one image; % of limit is against the same run's matrix product, and can
    pass 100 since Winograd needs fewer multiplications than the definition counts. A cell's
    `share` is the part of `flops` that its program does at all, 1 by default.
    """
    if not said or "missing" in said[-1]:
        return {"status": "not run", "why": said[-1]["missing"] if said else "not asked"}
    last = said[-1]
    rates = sorted(images / w for facts in said for w in facts["windows"])
    deciles = quantiles(rates, n=10) if len(rates) > 1 else rates * 9
    middle = median(rates)
    row = {
        "status": "measured",
        "images_per_second": round(middle, 1),
        "p10": round(max(deciles[0], rates[0]), 1),  # of few windows `quantiles` extrapolates
        "p90": round(min(deciles[-1], rates[-1]), 1),
        "n": len(rates),
        "rounds": [round(images / median(facts["windows"]), 1) for facts in said],
        "first_seconds": round(median(facts["first_seconds"] for facts in said), 2),
        "peak_mib": max(facts["peak_mib"] for facts in said),
        "versions": last["versions"],
    }
    if flops:
        row["gflops"] = round(middle * flops * last.get("share", 1) / 1e9, 1)
        if peak_gflops:
            row["percent_of_gemm_peak"] = round(100 * row["gflops"] / peak_gflops)
    if "temp_mib" in last:
        row["temp_mib"] = round(last["temp_mib"], 1)
    for name in ("steady_seconds", "job_seconds"):
        if name in last:
            row[name] = round(median(facts[name] for facts in said), 2)
    return row


def ratio(ours: dict[str, Any], theirs: dict[str, Any]) -> float | None:
    """How many times faster we are: the median over rounds, each round's cells run in turn."""
    if "rounds" not in ours or "rounds" not in theirs:
        return None
    pairs = zip(ours["rounds"], theirs["rounds"], strict=False)
    return round(median(a / b for a, b in pairs), 2)
