"""Answers as text: lines for a person, JSON and CSV for a program."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from mnistjax.data.found_pictures import LeftOut, shown
from mnistjax.inference.files import FileAnswers


def as_lines(done: Sequence[FileAnswers], top: int) -> list[str]:
    """A line for each answer: file, number if there are several, classes, likeliest first."""
    names = [
        f"{shown(file)}{mark}" for file, answers in done for mark in _marks(len(answers.labels))
    ]
    width = max(map(len, names), default=0)
    tops = [row for _, answers in done for row in answers.top(top)]
    return [
        f"{name:<{width}}  {'  '.join(f'{c} {share:.2%}' for c, share in row)}"
        for name, row in zip(names, tops, strict=True)
    ]


def _marks(count: int) -> list[str]:
    return [""] if count == 1 else [f" [{number}]" for number in range(1, count + 1)]


def as_json(done: Sequence[FileAnswers], top: int, left_out: Sequence[LeftOut], **more: Any) -> str:
    """One object: `answers`, a row for each with `file`, `character` from 1, `top`; `left_out`."""
    rows = [
        {
            "file": shown(file),
            "character": number,
            "top": [{"class": name, "probability": share} for name, share in row],
        }
        for file, answers in done
        for number, row in enumerate(answers.top(top), 1)
    ]
    others = [{"file": one.name, "why": one.why} for one in left_out]
    return json.dumps(more | {"answers": rows, "left_out": others}, indent=2)


def as_csv(done: Sequence[FileAnswers], top: int) -> str:
    """`file,character,rank,class,probability`, a row for each class told (RFC 4180)."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", "character", "rank", "class", "probability"])
    for file, answers in done:
        for number, row in enumerate(answers.top(top), 1):
            for rank, (name, share) in enumerate(row, 1):
                table.writerow([shown(file), number, rank, name, f"{share:.6f}"])
    return text.getvalue().rstrip("\n")
