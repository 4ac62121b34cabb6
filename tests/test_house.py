"""The limits of the house, where no linter counts them: see docs/architecture.md."""

import ast
import re
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parent.parent
FILES = [
    path
    for room in ("mnistjax", "experiments", "benchmarks", "examples")
    for path in sorted((ROOT / room).rglob("*.py"))
]
LONGEST, MOST_PARAMETERS, MOST_OF_A_PUBLIC_ONE = 60, 8, 10


def too_much(source: str) -> list[str]:
    """The functions of `source` that are too long or take too much."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines = (node.end_lineno or 0) - node.lineno + 1
        positional = len(node.args.posonlyargs) + len(node.args.args)
        parameters = positional + len(node.args.kwonlyargs)
        by_name = positional <= 3 and not node.name.startswith("_")
        parameters -= positional if by_name else 0
        most = MOST_OF_A_PUBLIC_ONE if by_name else MOST_PARAMETERS
        if lines > LONGEST:
            found.append(f"{node.name}: {lines} lines")
        if parameters > most:
            found.append(f"{node.name}: {parameters} parameters")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_function_fits_a_screen_and_takes_little(path):
    assert not too_much(path.read_text())


def test_what_is_too_much_would_be_found():
    long = "def f():\n" + "    x = 1\n" * 60
    wide = "def _f(a, *, b, c, d, e, f, g, h, i): ..."
    public = "def f(*, a, b, c, d, e, f, g, h, i, j, k): ..."
    assert [too_much(source) for source in (long, wide, public)] == [
        ["f: 61 lines"],
        ["_f: 9 parameters"],
        ["f: 11 parameters"],
    ]
    assert not too_much("def f(*, a, b, c, d, e, f, g, h, i, j): ...")


def lines_of(room: str) -> list[int]:
    return [len(path.read_text().splitlines()) for path in (ROOT / room).rglob("*.py")]


# What the two experiments and the flags they share are written in; every other file is a command.
EXPERIMENTS = {"__init__", "common", "config", "scratch"}
EXPERIMENTS |= {"finetune", "finetune_flags", "finetune_run"}


def test_files_are_short_and_experiments_are_flags_and_calls():
    lines = {
        path.stem: len(path.read_text().splitlines())
        for path in (ROOT / "experiments").rglob("*.py")
    }
    assert sum(count for name, count in lines.items() if name in EXPERIMENTS) <= 800
    commands = {name: count for name, count in lines.items() if name not in EXPERIMENTS}
    assert not {name for name, count in commands.items() if count > 100}
    assert median(lines_of("mnistjax") + lines_of("experiments")) <= 120
    assert max(lines_of("examples")) <= 50


def test_the_library_speaks_of_arguments_not_of_flags():
    """`mnistjax.flag_checks.as_flags` makes flags of them, for who uses a command line."""
    speaks_flags = {"cli.py", "cli_processes.py", "flag_checks.py", "__main__.py"}
    found = [
        f"{path.relative_to(ROOT)}: {text}"
        for path in (ROOT / "mnistjax").rglob("*.py")
        if path.name not in speaks_flags
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for text in re.findall(r"(?<![\w-])--[a-z][\w-]*", node.value)
        if text not in ("--help", "--file_format")  # the latter is TFDS's
        if not text.startswith("--xla")  # XLA's own
    ]
    assert not found
