"""What a sum over two processes costs, and what two processes of a core each gain.

    python -m benchmarks processes

On this machine's loopback, by Gloo: a network adds to it. A sum is of one array, as the step makes
one of all gradients. The step is the small CNN's, whose batch the processes share.
"""

from statistics import median
from typing import Any

from benchmarks.harness.cells import Cell
from benchmarks.harness.job import BenchmarkConfig, asked_for, finish, machine_facts
from benchmarks.harness.measure import collect
from benchmarks.harness.problems import cnn_problem
from benchmarks.harness.same import Facts
from benchmarks.tables import screen
from benchmarks.tables.rows import not_run

SUMS = {  # floats
    "the small CNN": 225_034,
    "VGG16's blocks 1-3 and a head": 2_785_354,
    "VGG16": 14_714_688,
}
BATCHES = 128, 1024
FORMS = {  # processes, cores of each
    "one process, one core": (1, 1),
    "one process, two cores": (1, 2),
    "two processes, a core each": (2, 1),
}


def cells() -> dict[Cell, int]:
    """Each cell, and the images of one step of it; 0 for a sum."""
    sums = {
        Cell(f"sum, {name}, {size:,} floats", "ours_processes", ("sum", str(size), "2", "1")): 0
        for name, size in SUMS.items()
    }
    steps = {
        Cell(
            f"batch {batch}, {name}", "ours_processes", ("step", str(batch), *map(str, form))
        ): batch
        for batch in BATCHES
        for name, form in FORMS.items()
    }
    return sums | steps


def main(config: BenchmarkConfig) -> int:
    """Measure every cell; one that cannot run is a row that says why."""
    machine, images = machine_facts(config), cells()
    chosen = asked_for(config, [*images])
    title = "sums over two processes, and the small CNN's step by them"
    _, facts = collect(config, title, chosen, cnn_problem)
    rows = {cell.name: summarise(facts[cell.name], images[cell]) for cell in chosen}
    _print(rows)
    return finish("processes", config, machine, {"rows": rows})


def summarise(said: list[Facts], images: int) -> dict[str, Any]:
    """A row: milliseconds as the median over windows of all rounds, least and most; images/s.

    >>> summarise([{"windows": [0.01, 0.02, 0.03], "versions": {}}], images=100)["at_the_median"]
    5000.0
    """  # noqa: E501
    if gap := not_run(said):
        return gap
    taken = [1e3 * seconds for facts in said for seconds in facts["windows"]]
    row: dict[str, Any] = {"status": "measured"}
    if images:
        row["at_the_median"] = round(images / median(taken) * 1e3, 1)
    times = {"milliseconds": median(taken), "least_ms": min(taken), "most_ms": max(taken)}
    row |= {name: round(value, 2) for name, value in times.items()}
    return row | {"n": len(taken), "versions": said[-1]["versions"]}


def _print(rows: dict[str, Any]) -> None:
    for name, row in rows.items():
        if "why" in row:
            screen.note(f"{name}: {row['why']}")
            continue
        rate = f", {row['at_the_median']:,.0f} images/s" if "at_the_median" in row else ""
        ends = f"{row['least_ms']} to {row['most_ms']}, n = {row['n']}"
        screen.console.print(f"{name}: {row['milliseconds']} ms ({ends}){rate}", highlight=False)
