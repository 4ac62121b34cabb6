"""What a terminal sees while and after a job runs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 110)


def note(text: str) -> None:
    """Print what one should know, and could overlook."""
    console.print(f"[bold yellow]NOTE[/]  {text}", highlight=False)


def say_written(path: Path) -> None:
    """Print where the figures are now."""
    console.print(f"written to benchmarks/results/{path.name}", highlight=False)


def start_table(words: Sequence[str], figures: Sequence[str], *, title: str = "") -> Table:
    """A table without rows: columns of `words`, then of `figures`, which are aligned right."""
    table = Table(*words, title=title or None, title_justify="left")
    for heading in figures:
        table.add_column(heading, justify="right")
    return table


def print_rows(title: str, rows: dict[str, dict[str, Any]]) -> None:
    """Print the rows, the fastest first, cells that did not run last."""
    headings = ("images/s", "p10 to p90", "ours is", "first step s", "peak MiB", "% of GEMM")
    table = start_table(["program"], headings, title=title)
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
    console.print(table)
