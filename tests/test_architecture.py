"""docs/architecture.md: a map that names what is no longer there leads astray."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "architecture.md").read_text()
FILES = {"metrics.jsonl", "summary.json", "__init__.pyi"}


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


STEPS = re.split(r"^\d+\. ", section("The trip of a batch"), flags=re.MULTILINE)[1:]
ROWS = re.findall(r"^\| (.*)", section("Where to change what"), flags=re.MULTILINE)
TASKS = [row.split(" | ")[:2] for row in ROWS[1:]]


def links(text: str) -> list[Path]:
    return [DOCS / target for target in re.findall(r"\]\((?!http)([^)#]+)", text)]


def not_defined(text: str) -> list[str]:
    """The names in backquotes that no Python file linked in `text` defines."""
    code = "\n".join(path.read_text() for path in links(text) if path.suffix in (".py", ".pyi"))
    quoted = set(re.findall(r"`([A-Za-z_][\w.]*)`", text)) - FILES
    names = {part for name in quoted for part in name.removeprefix("mj.").split(".")}
    form = r"(?:def|class|import \w+ as) {0}\b|^ *{0}\b(?::.*)? ="
    return sorted(n for n in names if not re.search(form.format(n), code, re.MULTILINE))


def test_every_file_it_names_exists():
    assert len(links(PAGE)) > 50
    assert not [path for path in links(PAGE) if not path.exists()]


@pytest.mark.parametrize("step", STEPS, ids=range(1, len(STEPS) + 1))
def test_each_step_of_the_trip_names_what_its_files_define(step):
    assert links(step) and not not_defined(step)


@pytest.mark.parametrize(("task", "where"), TASKS, ids=[task for task, _ in TASKS])
def test_each_task_names_what_its_files_define(task, where):
    assert links(where) and not not_defined(where)


def test_the_trip_and_the_tasks_are_whole():
    assert len(STEPS) >= 10 and len(TASKS) >= 15
