"""How to read a result: its groups of rows, and what a row measured."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

STATUSES = ("measured", "compiled-only", "not run")
NOISY_LOAD = 0.5
Rows = dict[str, dict[str, Any]]


class Median(NamedTuple):
    """A row's median with its spread, and which way is better."""

    value: float
    p10: float
    p90: float
    n: int
    unit: str
    more_is_better: bool


class Group(NamedTuple):
    """Rows that are comparable with each other, and the machine's peaks beside them."""

    name: str
    rows: Rows
    peaks: dict[str, Any]


def groups(result: dict[str, Any], name: str = "") -> Iterator[Group]:
    """The groups of one job, however deep: VGG16 has one for each size.

    >>> [group.name for group in groups({"32x32": {"rows": {"a": {"status": "not run"}}}})]
    ['32x32']
    """
    if "rows" in result:
        yield Group(name, result["rows"], result.get("peaks") or {})
        return
    for key, value in result.items():
        if key not in ("environment", "peaks") and isinstance(value, dict):
            yield from groups(value, f"{name} {key}".strip())


def not_run(said: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The row of a cell of which not every seed said its figures; `None` if all did.

    >>> not_run([{"seconds": 2.0}, {"missing": "not installed"}])
    {'status': 'not run', 'why': 'not installed'}
    """
    gap = next((seed["missing"] for seed in said if "missing" in seed), None)
    return {"status": "not run", "why": gap or "not asked"} if gap or not said else None


def median_of(row: dict[str, Any]) -> Median | None:
    """What `row` measured, `None` if it did not run: seconds of a job before images/s.

    >>> median_of({"status": "measured", "seconds": 2.0, "p10": 1.9, "p90": 2.2, "n": 3}).unit
    's'
    """
    if row.get("status") != "measured":
        return None
    if "steady_seconds" in row:  # a whole job: p10 and p90 are those of its images/s
        total = row["steady_seconds"] * row["images_per_second"]
        spread = total / row["p90"], total / row["p10"]
        return Median(row["steady_seconds"], spread[0], spread[1], row["n"], "s", False)
    if "seconds" in row:
        return Median(row["seconds"], row["p10"], row["p90"], row["n"], "s", False)
    if "images_per_second" in row:
        value = row["images_per_second"]
        return Median(value, row["p10"], row["p90"], row["n"], "images/s", True)
    return None


def was_busy(environment: dict[str, Any]) -> bool:
    """Whether the machine had other work before the run, which may have slowed it."""
    return (environment.get("load_before") or 0) > NOISY_LOAD


def is_ours(program: str) -> bool:
    """Whether a row is this library's."""
    return program.startswith("mnistjax")


def number(value: Any) -> str:
    """Three figures at least, thousands apart.

    >>> number(13387.3), number(51.94), number(0.0123), number("x"), number(4)
    ('13,387', '51.9', '0.0123', 'x', '4')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
