"""Has anything become slower? `python -m benchmarks compare BEFORE.json AFTER.json`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from benchmarks.tables import screen
from benchmarks.tables.files import read, slug
from benchmarks.tables.rows import Median, groups, median_of, number
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
    before: Median
    after: Median
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


def noise(a: Median, b: Median) -> float:
    """The share of the median below which a difference means nothing: `RULE`.

    >>> noise(Median(100, 95, 105, 9, "s", False), Median(100, 98, 101, 9, "s", False))
    0.1
    """
    least = NOISE_OF_FEW if min(a.n, b.n) < FEW else ALWAYS_NOISE
    return max(least, *(round((m.p90 - m.p10) / m.value, 3) for m in (a, b)))


def main(config: CompareConfig) -> int:
    """Print a table of all rows and say which have regressed."""
    before, after = read(config.before), read(config.after)
    found = list(changes(before, after))
    if not found:
        why = "no row was measured in both"
        raise DataError(f"{config.after}", why, fix=f"run the jobs of {config.before}")
    for job in before.keys() & after.keys():
        machines = [slug(file[job]["environment"]) for file in (before, after)]
        if machines[0] != machines[1]:
            screen.note(f"{job}: {machines[0]} against {machines[1]}")
    _print(found)
    gone = [key for key in dict(_rows(before)) if key not in dict(_rows(after))]
    for job, program in gone:
        screen.note(f"{job}, {program}: measured before, not after")
    return int(any(change.verdict == "regressed" for change in found))


def _print(found: list[Change]) -> None:
    table = screen.start_table(["job", "program"], ["before", "after", "change", "noise", ""])
    colors = {"regressed": "[bold red]", "improved": "[green]", "same": "[dim]"}
    for change in found:
        unit = change.before.unit
        values = [f"{number(median.value)} {unit}" for median in (change.before, change.after)]
        shares = f"{change.better_by:+.1%}", f"{change.noise:.1%}"
        verdict = f"{colors[change.verdict]}{change.verdict}"
        table.add_row(change.job, change.program, *values, *shares, verdict)
    screen.console.print(table)
    screen.console.print(RULE, highlight=False)


def _rows(file: dict[str, Any]) -> Iterator[tuple[tuple[str, str], Median]]:
    for job, result in file.items():
        for group in groups(result):
            for program, row in group.rows.items():
                if got := median_of(row):
                    yield (f"{job} {group.name}".strip(), program), got
