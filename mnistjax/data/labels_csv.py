"""A table that says which picture is of which class: labels.csv."""

import csv
from pathlib import Path
from typing import NamedTuple

from mnistjax.data.picture_files import SUFFIXES
from mnistjax.errors import DataError

NAMES = ("labels.csv", "train.csv", "annotations.csv", "labels.tsv")
PATHS = ("path", "file", "filename", "file_name", "filepath", "image", "image_id", "id", "img")
LABELS = ("label", "class", "class_name", "category", "target", "species", "breed")
MAX_BYTES = 2**28


class LabelRow(NamedTuple):
    """One line: where the picture is, its class, and its split ("" where the table has none)."""

    path: Path
    label: str
    split: str


def find_table(directory: Path) -> Path | None:
    """The table in `directory`, if there is one with a path and a label in it."""
    for name in NAMES:
        path = directory / name
        if path.is_file() and _columns(path) is not None:
            return path
    return None


def read_table(path: Path) -> list[LabelRow]:
    """Every row; paths are relative to the table or to a folder beside it, with or without suffix.

    The columns are found by their names, else the first is the path and the second the label; a
    column `split` is used. Raises `DataError` for files that are not there, naming the first.
    """
    columns = _columns(path)
    assert columns is not None  # `find_table` has looked
    at_path, at_label, at_split, header = columns
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        lines = [line for line in csv.reader(file, _dialect(path)) if any(line)][header:]
    places = [path.parent, *(p for p in sorted(path.parent.iterdir()) if p.is_dir())]
    rows, missing, short = [], [], []
    for number, line in enumerate(lines, 1 + header):
        if len(line) <= max(at_path, at_label):
            short.append(number)
            continue
        found = _find(line[at_path], places)
        if found is None:
            missing.append(line[at_path])
        else:
            split = line[at_split] if at_split is not None and at_split < len(line) else ""
            rows.append(LabelRow(found, line[at_label].strip(), split))
    if missing or short:
        what = f"{len(missing):,} of its pictures are not there, {missing[0]} for one"
        why = what if missing else f"line {short[0]} has no label"
        raise DataError(str(path), why, fix="mend the table, or put the files there")
    return rows


def _find(name: str, places: list[Path]) -> Path | None:
    for place in places:
        for suffix in ("", *sorted(SUFFIXES)):
            candidate = place / f"{name.strip()}{suffix}"
            if candidate.is_file() and candidate.resolve().is_relative_to(places[0].resolve()):
                return candidate
    return None


def _dialect(path: Path) -> type[csv.Dialect]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        line = file.readline(10_000)
    separator = max(",;\t", key=line.count)
    return type("Separated", (csv.excel,), {"delimiter": separator})


def _columns(path: Path) -> tuple[int, int, int | None, int] | None:
    """Where path, label and split stand, and how many lines of header there are; None for neither.

    A table of pixels (Kaggle's digits) has a label and no path.
    """
    if path.stat().st_size > MAX_BYTES:
        return None
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        try:
            first = next(csv.reader(file, _dialect(path)), [])
        except csv.Error:
            return None
    names = [name.strip().lower() for name in first]
    at_path = next((names.index(name) for name in PATHS if name in names), None)
    at_label = next((names.index(name) for name in LABELS if name in names), None)
    if at_path is not None and at_label is not None:
        return at_path, at_label, names.index("split") if "split" in names else None, 1
    if len(first) == 2 and Path(first[0]).suffix.lower() in SUFFIXES:
        return 0, 1, None, 0
    return None
