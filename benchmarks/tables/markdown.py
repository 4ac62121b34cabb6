"""Results as Markdown tables: a row is measured, compiled-only, or not run and says why."""

from collections.abc import Iterable
from typing import Any

from benchmarks.registry import JOBS
from benchmarks.tables.rows import STATUSES, Group, Rows, groups, is_ours, median_of, number
from mnistjax.platforms import PLATFORMS

# Keys of a row in the order of their columns; numbers under other names come after these.
HEADINGS = {
    "images_per_second": "images/s",
    "seconds": "seconds",
    "at_the_median": "images/s",
    "milliseconds": "ms",
    "least_ms": "least, ms",
    "most_ms": "most, ms",
    "p50_ms": "median wait, ms",
    "p99_ms": "p99, ms",
    "failed": "failed",
    "steady_seconds": "a job, s",
    "job_seconds": "with compiling, s",
    "p10": "p10",
    "p90": "p90",
    "n": "n",
    "ours_is": "ours is",
    "no_cache_is": "ours without cache is",
    "first_seconds": "compile or first step, s",
    "peak_mib": "peak MiB",
    "gflops": "GFLOP/s",
    "percent_of_gemm_peak": "% of GEMM",
    "mfu_percent": "MFU %",
    "temp_mib": "step's temp MiB",
    "estimate_ms": "at least, ms (an estimate)",
    "gflop": "GFLOP",
    "gb_accessed": "GB accessed",
    "peak_memory_mib": "peak MiB of a chip",
    "largest_batch": "largest batch that fits",
    "collective_mib": "MiB summed over chips",
    "sum_ms": "the sum, ms (an estimate)",
    "percent_at_most": "% of a chip's speed at most",
}
# In the JSON for who wants them; without them the table fits a page.
HIDDEN = {"argument_mib", "output_mib", "alias_mib", "loops", "convolutions"}
OF_IMAGES = ("images_per_second", "p10", "p90")  # of a whole job its seconds say it


def table(headings: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table; every column but the first is aligned right.

    >>> print(table(["a", "b"], [["x|y", 1.5]]))
    | a | b |
    |---|---:|
    | x\\|y | 1.5 |
    """
    headings = list(headings)
    lines = [headings, *rows]
    text = ["| " + " | ".join(number(c).replace("|", "\\|") for c in line) + " |" for line in lines]
    text.insert(1, "|---" + "|---:" * (len(headings) - 1) + "|")
    return "\n".join(text)


def overview(results: dict[str, dict[str, Any]]) -> str:
    """Jobs by platforms, each cell one of the three statuses."""
    jobs = list(JOBS) + sorted({job for file in results.values() for job in file} - JOBS.keys())
    found: dict[tuple[str, str], set[str]] = {}
    for file in results.values():
        for job, result in file.items():
            platform = result["environment"]["platform"]
            if job.partition("_")[0] in PLATFORMS:  # tpu_aot runs on a CPU, but is not about it
                platform = job.partition("_")[0]
            statuses = found.setdefault((job, platform), set())
            statuses |= {status(row) for group in groups(result) for row in group.rows.values()}
    cells = [
        [f"`{job}`", title(job)]
        + [
            next((s for s in STATUSES if s in found.get((job, p), ())), "not run")
            for p in PLATFORMS
        ]
        for job in jobs
    ]
    return table(["job", "", *(platform.upper() for platform in PLATFORMS)], cells)


def title(job: str) -> str:
    """What the job is about, as far as is known."""
    return JOBS[job].title if job in JOBS else job.replace("_", " ")


def status(row: dict[str, Any]) -> str:
    """One of `STATUSES`; lowerings of an operation have been measured if they are there."""
    return row.get("status") or ("measured" if "rows" in row else "not run")


def group_table(group: Group) -> str:
    """One group of rows, the best first; lowerings have a shape of their own."""
    if any("rows" in row for row in group.rows.values()):
        return _lowerings_table(group.rows)
    rows = dict(sorted(group.rows.items(), key=lambda item: _rank(item[1])))
    keys = _keys(rows)
    whole = all(status(row) == "measured" for row in rows.values())
    headings = ["program", *(HEADINGS.get(key, key.replace("_", " ")) for key in keys)]
    lines = []
    for program, row in rows.items():
        cells = [_cell(key, row.get(key)) for key in keys]
        name = f"**{program}**" if is_ours(program) else program
        lines.append([name, *cells] + ([] if whole else [_status_and_why(row)]))
    return table(headings + ([] if whole else ["status"]), lines)


def _keys(rows: Rows) -> list[str]:
    """The numbers that any row has, as columns in their order."""
    present = {k for row in rows.values() for k, v in row.items() if isinstance(v, int | float)}
    if any("steady_seconds" in row for row in rows.values()):
        present -= set(OF_IMAGES)
    present -= HIDDEN
    known = [key for key in HEADINGS if key in present]
    others = [key for row in rows.values() for key in row if key in present]
    return list(dict.fromkeys(known + others))


def _rank(row: dict[str, Any]) -> tuple[int, float]:
    got = median_of(row)
    rank = STATUSES.index(status(row)) if status(row) in STATUSES else len(STATUSES)
    return (rank, 0.0) if got is None else (rank, -got.value if got.more_is_better else got.value)


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.2f} x" if key.endswith("_is") else number(value)


def _status_and_why(row: dict[str, Any]) -> str:
    why = f": {row['why']}" if row.get("why") else ""
    return status(row) + why


def _lowerings_table(rows: Rows) -> str:
    """An operation a line, a lowering a column: ms forward / with both gradients, best in bold."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row.get("rows", ())))
    lines = []
    for operation, row in rows.items():
        if "rows" in row:
            lines.append([operation, *_lowerings(row["rows"], names)])
        else:
            why = row.get("missing") or row.get("why", "")
            lines.append([operation, f"not run: {why}", *[""] * (len(names) - 1)])
    return table(["operation, ms forward / with gradients", *names], lines)


def _lowerings(rows: Rows, names: list[str]) -> list[str]:
    pairs = {
        name: [parts[part]["ms"] for part in ("forward", "with gradients")]
        for name, parts in rows.items()
    }
    best = [min(column) for column in zip(*pairs.values(), strict=True)]
    cells = []
    for name in names:
        times = zip(pairs.get(name, ()), best, strict=False)
        cells.append(" / ".join(f"**{ms:.2f}**" if ms == low else f"{ms:.2f}" for ms, low in times))
    return cells
