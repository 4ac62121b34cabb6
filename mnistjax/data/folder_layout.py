"""Where the pictures of a folder belong: which split, which class, and what is left out.

Known are one sub-folder per class; `train`, `val` and `test` (by the usual names) with one each; a
table `labels.csv`; and any of them within an outer folder. Pictures in deeper folders count for the
class they lie below.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mnistjax.data.labels_csv import find_table, read_table
from mnistjax.data.picture_files import HEIC_SUFFIXES, files_below, is_picture, subdirectories
from mnistjax.errors import DataError

SPLITS = {"train": "train(ing)?", "validation": "val(id(ation)?)?|dev", "test": "test(ing)?|eval"}
Labelled = list[tuple[Path, str]]


class Layout(NamedTuple):
    """Files with the names of their classes, split by split; a split that is not there is empty."""

    root: Path
    train: Labelled
    validation: Labelled
    test: Labelled
    notices: list[str]
    """What was left out or counts for something one might not think, a phrase each."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Those of the training files, sorted."""
        return tuple(sorted({name for _, name in self.train}))


def find_layout(directory: Path) -> Layout:
    """What lies in `directory`; raise `DataError`, saying what was seen, if no labels are there."""
    root = _innermost(directory)
    if (table := find_table(root)) is not None:
        return _from_table(root, table)
    parts = {split: path for path in subdirectories(root) if (split := _split_of(path.name))}
    others = [path for path in subdirectories(root) if path not in parts.values()]
    splits: dict[str, Labelled] = {"train": [], "validation": [], "test": []}
    notices: list[str] = []
    for split, path in parts.items():
        splits[split], said = _by_class(path, subdirectories(path))
        notices += [f"{path.name}/: {phrase}" for phrase in said]
        if not splits[split] and (count := _pictures(path)) and split != "train":
            notices.append(f"{path.name}/: {count:,} pictures without class folders, not used")
    if not splits["train"] and any(not re.match("train|val|test", p.name.lower()) for p in others):
        if "train" in parts:  # a class of railways
            notices.append(f"{parts['train'].name}/ counts as a class")
            others.append(parts["train"])
        splits["train"], said = _by_class(root, sorted(others))
        notices += said
    elif count := sum(map(_pictures, others)):
        notices.append(f"{count:,} pictures beside the splits are not used")
    return _checked(Layout(root, notices=notices, **splits))


def holds_labels(directory: Path) -> bool:
    """Whether `directory` is a folder of pictures with classes."""
    try:
        find_layout(directory)
    except DataError:
        return False
    return True


def holds_pictures(directory: Path) -> bool:
    """Whether any picture lies in `directory` or below."""
    return any(map(is_picture, files_below(directory)))


def name_of(folder: Path) -> str:
    """The class that a folder stands for."""
    return printable(folder.name)


def printable(name: str) -> str:
    """A name of a file as text that can be printed and written, whatever its bytes.

    >>> printable(os.fsdecode(b"caf\\xe9")), printable("a\\nb")
    ('café', 'a\\\\nb')
    """
    raw = os.fsencode(name)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    text = unicodedata.normalize("NFC", text)  # a Mac writes é as two characters
    joiners = "\u200c\u200d"  # parts of some scripts and emoji
    seen = (c if c.isprintable() or c in joiners else ascii(c)[1:-1] for c in text)
    return "".join(seen)


def _split_of(name: str) -> str | None:
    """Which split a folder of this name holds, if any: `Training_Set` is `train`."""
    plain = re.sub(r"[\s_.-]?(set|data|images|imgs|split)$", "", name.lower())
    return next((split for split, names in SPLITS.items() if re.fullmatch(names, plain)), None)


def _innermost(directory: Path) -> Path:
    """Inside outer folders that hold nothing but one folder of folders."""
    while True:
        inner = subdirectories(directory)
        if len(inner) != 1 or find_table(directory) or not subdirectories(inner[0]):
            return directory
        if any(path.is_file() and is_picture(path) for path in directory.iterdir()):
            return directory
        if _split_of(inner[0].name) == "train":
            return directory
        directory = inner[0]


def _by_class(directory: Path, folders: list[Path]) -> tuple[Labelled, list[str]]:
    """The pictures below each of `folders` in `directory`, and what is said of the rest."""
    labelled: Labelled = []
    notices, ignored, empty, deeper = [], Counter[str](), [], 0
    for folder in folders:
        before = len(labelled)
        for path in files_below(folder):
            if is_picture(path):
                labelled.append((path, name_of(folder)))
                deeper += path.parent != folder
            else:
                ignored[path.suffix.lower() or "no suffix"] += 1
        if len(labelled) == before:
            empty.append(name_of(folder))
    loose = sum(path.is_file() and is_picture(path) for path in directory.iterdir())
    if ignored:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in ignored.most_common(4))
        more = "; HEIC: pip install 'mnistjax[heic]'" if HEIC_SUFFIXES & ignored.keys() else ""
        notices.append(
            f"{ignored.total():,} files are no pictures that can be read ({kinds}{more})"
        )
    if labelled and empty:
        notices.append(f"no picture in {_some(empty)}")
    if deeper:
        notices.append(f"{deeper:,} pictures in deeper folders count for the class above them")
    if labelled and loose:
        notices.append(f"{loose:,} pictures beside the class folders are not used")
    return labelled, notices


def _pictures(directory: Path) -> int:
    return sum(map(is_picture, files_below(directory)))


def _from_table(root: Path, table: Path) -> Layout:
    rows = read_table(table)
    listed = {row.path for row in rows}
    unlisted = [path for path in files_below(root) if is_picture(path) and path not in listed]
    notices = [f"{len(unlisted):,} pictures are not in {table.name}"] if unlisted else []
    splits: dict[str, Labelled] = {"train": [], "validation": [], "test": []}
    for row in rows:
        splits[_split_of(row.split) or "train"].append((row.path, row.label))
    return _checked(Layout(root, notices=notices, **splits))


def _checked(layout: Layout) -> Layout:
    names = layout.class_names
    if len(names) < 2:
        raise DataError(f"`data_dir` {layout.root}", _seen(layout), fix=_FIX)
    for split, files in (("validation", layout.validation), ("test", layout.test)):
        there = {name for _, name in files}
        if unknown := sorted(there - set(names)):
            why = f"its {split} classes {_some(unknown)} are not those of training: {_some(names)}"
            fix = "use the same class folders in both"
            raise DataError(str(layout.root), why, fix=fix)
        if files and (missing := [name for name in names if name not in there]):
            layout.notices.append(f"no {split} picture of {_some(missing)}")
    return layout


_FIX = "make one sub-folder per class, or a table labels.csv with path,label"


def _seen(layout: Layout) -> str:
    """What a folder holds that is none of what is known."""
    seen = [
        f"{name_of(folder)}/ with {_pictures(folder):,} pictures and"
        f" {len(subdirectories(folder)):,} folders"
        for folder in subdirectories(layout.root)[:5]
    ]
    loose = sum(path.is_file() and is_picture(path) for path in layout.root.iterdir())
    seen += [f"{loose:,} pictures right in it"] if loose else []
    count = len(layout.class_names)
    there = f"there are {', '.join(seen)}" if seen else "it is empty"
    return f"{count} class folders with pictures, at least 2 are needed; {there}"


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:5], *([f"and {len(names) - 5} more"] if len(names) > 5 else [])])
