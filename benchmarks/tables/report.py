"""All results as `docs/benchmarks.md` and charts: `python -m benchmarks report`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks import ROOT
from benchmarks.tables.files import RESULTS, read_all, widest
from benchmarks.tables.rows import groups
from mnistjax.cli import Config
from mnistjax.errors import DataError

INTRODUCTION = """# Benchmarks

Rendered from [`benchmarks/results/`](../benchmarks/results) by `python -m benchmarks report`.
Run them on your machine with `make bench`; peers come with `make bench-peers`.

Every program runs in a process of its own, in turn with the others, with equal threads, and is
checked to compute the same before its time counts. Figures are medians over windows of at least
half a second, after a warm-up, compiling apart; p10 and p90 are over all windows. "ours is": how
many times faster our first row is, the median over rounds. "% of GEMM": floating-point operations
by the definition of the network, against a large float32 matrix product in the same run; Winograd
does fewer, so it can pass 100. A cell is measured, compiled-only (for a device that was not at
hand; what it says of time is an estimate) or not run. Nothing is extrapolated. A load average in
bold, above 0.5 before the run: other work may have slowed it.
"""


@dataclass(frozen=True, kw_only=True)
class ReportConfig(Config):
    """Render every machine's results to Markdown and SVG."""

    results: Annotated[Path, tyro.conf.arg(metavar="DIR")] = RESULTS
    """Where the JSON files are."""
    output: Annotated[Path, tyro.conf.arg(metavar="DIR")] = ROOT / "docs"
    """Gets benchmarks.md and images/."""

    def validate(self) -> None:
        """Raise `DataError` if there is nothing to render."""
        if not any(self.results.glob("*.json")):
            why = "holds no results"
            raise DataError(f"--results {self.results}", why, fix="run python -m benchmarks first")


def main(config: ReportConfig) -> int:
    """Write benchmarks.md and the charts; the same results give the same bytes."""
    from benchmarks.tables.machines import environment_table, runs_table
    from benchmarks.tables.markdown import overview

    results = read_all(config.results)
    images = config.output / "images"
    images.mkdir(parents=True, exist_ok=True)
    parts = [INTRODUCTION, "## What has been measured\n", overview(results) + "\n"]
    for machine, file in results.items():
        parts += [f"## {heading(file)}\n", environment_table(file) + "\n", runs_table(file) + "\n"]
        for job, result in file.items():
            parts += section(job, result, images / f"{machine}-{job}.svg")
        if svg := first_screen(file):
            (images / "headline.svg").write_text(svg)
    (config.output / "benchmarks.md").write_text("\n".join(parts))
    print(f"written to {config.output / 'benchmarks.md'}")
    return 0


def section(job: str, result: dict[str, Any], chart: Path) -> list[str]:
    """A job's heading, its bars, which are written to `chart`, and its tables."""
    from benchmarks.tables.charts import bars, to_svg
    from benchmarks.tables.markdown import group_table, title

    found = list(groups(result))
    parts = [f"### {job}: {title(job)}\n"]
    if figure := bars(found):
        chart.write_text(to_svg(figure))
        parts.append(f"![{title(job)}, as bars](images/{chart.name})\n")
    for group in found:
        parts += [f"**{group.name}**\n"] * bool(group.name) + [group_table(group) + "\n"]
    return parts


def heading(file: dict[str, Any]) -> str:
    """The machine in a few words."""
    facts = next(iter(file.values()))["environment"]
    if facts["platform"] == "cpu":
        words = f"CPU: {facts['cpu']}", widest(facts["isa"]), f"{facts['threads']} threads"
        return ", ".join(word for word in words if word)
    return f"{facts['platform'].upper()}: {facts['device_kind']}"


def first_screen(file: dict[str, Any]) -> str | None:
    """README's chart, from a CPU's training step."""
    from benchmarks.tables.charts import headline, to_svg

    if "step" not in file or file["step"]["environment"]["platform"] != "cpu":
        return None
    facts, (group,) = file["step"]["environment"], groups(file["step"])
    versions = {k: v for row in group.rows.values() for k, v in row.get("versions", {}).items()}
    names = {"jax": "JAX", "torch": "PyTorch", "tensorflow": "TensorFlow", "keras": "Keras"}
    stack = ", ".join(f"{names[k]} {versions[k]}" for k in names if k in versions)
    figure = headline(
        group,
        title="Training step of a small CNN, images per second",
        subtitle=f"{facts['cpu']}, {facts['threads']} threads · batch 128, float32 · {stack}",
    )
    return to_svg(figure) if figure else None
