"""Has anything become slower? `python -m benchmarks compare BEFORE.json AFTER.json`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from benchmarks.environment import slug
from benchmarks.rows import Measure, groups, measure, number
from mnistjax.cli import Config
from mnistjax.errors import DataError

RULE = (
    "A row has regressed if its median is worse by more than the larger of both files' spreads"
    " (p90 - p10, in medians) and more than 5 %, or 25 % where either has fewer than 5 windows."
)
ALWAYS_NOISE, FEW, NOISE_OF_FEW = 0.05, 5, 0.25


@dataclass(frozen=True, kw_only=True)
class CompareConfig(Config):
    """Compare two result files row by row; the exit code is 1 if one has regressed."""

    before: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="BEFORE.json")]
    """Results to hold against."""
    after: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="AFTER.json")]
    """Results to judge."""


class Change(NamedTuple):
    """A row that both files measured: how much better the second is, and what is noise."""

    job: str
    program: str
    before: Measure
    after: Measure
    better_by: float
    noise: float

    @property
    def verdict(self) -> str:
        """regressed, improved, or the same as far as anybody can tell."""
        if abs(self.better_by) <= self.noise:
            return "same"
        return "improved" if self.better_by > 0 else "regressed"


def changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Change]:
    """Every row that both measured, in the order of `before`."""
    theirs = dict(_rows(after))
    for (job, program), a in _rows(before):
        b = theirs.get((job, program))
        if b is None or a.unit != b.unit:
            continue
        ratio = b.value / a.value if a.more_is_better else a.value / b.value
        yield Change(job, program, a, b, ratio - 1, noise(a, b))


def noise(a: Measure, b: Measure) -> float:
    """The share of the median below which a difference means nothing: `RULE`.

    >>> noise(Measure(100, 95, 105, 9, "s", False), Measure(100, 98, 101, 9, "s", False))
    0.1
    """
    least = NOISE_OF_FEW if min(a.n, b.n) < FEW else ALWAYS_NOISE
    return max(least, *(round((m.p90 - m.p10) / m.value, 3) for m in (a, b)))


def main(config: CompareConfig) -> int:
    """Print a table of all rows and say which have regressed."""
    from rich.table import Table

    from benchmarks.compare import console

    before, after = _read(config.before), _read(config.after)
    found = list(changes(before, after))
    if not found:
        why = "no row was measured in both"
        raise DataError(f"{config.after}", why, fix=f"run the jobs of {config.before}")
    for job in before.keys() & after.keys():
        machines = [slug(file[job]["environment"]) for file in (before, after)]
        if machines[0] != machines[1]:
            console.print(f"[bold yellow]NOTE[/]  {job}: {machines[0]} against {machines[1]}")
    table = Table("job", "program")
    for heading in ("before", "after", "change", "noise", ""):
        table.add_column(heading, justify="right")
    colors = {"regressed": "[bold red]", "improved": "[green]", "same": "[dim]"}
    for change in found:
        unit = change.before.unit
        values = [f"{number(m.value)} {unit}" for m in (change.before, change.after)]
        shares = f"{change.better_by:+.1%}", f"{change.noise:.1%}"
        verdict = f"{colors[change.verdict]}{change.verdict}"
        table.add_row(change.job, change.program, *values, *shares, verdict)
    console.print(table)
    console.print(RULE, highlight=False)
    gone = [key for key in dict(_rows(before)) if key not in dict(_rows(after))]
    for job, program in gone:
        console.print(f"[bold yellow]NOTE[/]  {job}, {program}: measured before, not after")
    return int(any(change.verdict == "regressed" for change in found))


def _rows(file: dict[str, Any]) -> Iterator[tuple[tuple[str, str], Measure]]:
    for job, result in file.items():
        for group in groups(result):
            for program, row in group.rows.items():
                if got := measure(row):
                    yield (f"{job} {group.name}".strip(), program), got


def _read(path: Path) -> dict[str, Any]:
    fix = "pass a file of benchmarks/results/"
    try:
        file = json.loads(path.read_text())
    except OSError as error:
        raise DataError(str(path), error.strerror or "cannot be read", fix=fix) from error
    except ValueError as error:
        raise DataError(str(path), "is no JSON", fix=fix) from error
    if not isinstance(file, dict) or not all(
        isinstance(result, dict) and "environment" in result for result in file.values()
    ):
        raise DataError(str(path), "holds no results of benchmarks", fix=fix)
    return file
