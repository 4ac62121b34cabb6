"""A .csv with an image in each row: `label,pixel0,...,pixel783`, as Kaggle's digits have it."""

from collections.abc import Iterator
from itertools import islice
from math import isqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mnistjax.data.dataset import Dataset
from mnistjax.data.emnist import upright
from mnistjax.data.from_arrays import as_images, as_labels, make_dataset
from mnistjax.data.part_names import part_name
from mnistjax.data.plain import AGAIN, check_size, open_text
from mnistjax.errors import DataError

_LABELS = ("label", "labels", "class", "target", "y")
_FEWEST = 64  # pixels of a row: fewer columns are a table of something else
_LONGEST = 2**16  # bytes of a row
_ROWS = 512  # read at once


class Columns(NamedTuple):
    """Their number, which one is the label (None if none is), and if a header names them."""

    number: int
    label: int | None
    header: bool


def csv_set(path: Path, start: bytes) -> str | None:
    """The set that a .csv of pixels belongs to, None for anything else.

    `start` are the first plain bytes. It must be text with many columns of whole numbers.
    """
    text = start.decode("utf-8", "replace")
    if text.count(",") < 16 or not all(c.isprintable() or c in "\r\n\t\ufeff" for c in text):
        return None
    try:
        columns = read_columns(path)
    except DataError:
        return part_name(path.name).key if path.suffix.lower() == ".csv" else None
    return part_name(path.name).key if columns else None


def read_columns(path: Path) -> Columns | None:
    """What the first two lines of `path` say; None if they are not those of pixels."""
    with open_text(path) as text:
        first, second = (_words(text.readline(_LONGEST)) for _ in range(2))
    header = not all(map(_is_number, first))
    at = [index for index, word in enumerate(first) if word.lower() in _LABELS]
    if len(first) < _FEWEST or (header and not at and not all(map(_is_number, second))):
        return None  # of a table with labels, reading it says what is wrong
    count = len(first)
    if header:
        return Columns(count, at[0] if at else None, True)
    return Columns(count, None if isqrt(count) ** 2 == count else 0, False)


def load_csv(key: str, files: list[Path]) -> Dataset:
    """Read one .csv of labelled pixels, or one for training and one for test.

    A file without labels, such as Kaggle's test.csv, is left out, and that is said. Each row is a
    square of grey pixels from 0 to 255; EMNIST's are turned upright. Raises `DataError` with the
    row that is none.
    """
    parts, left_out = {}, []
    for path in files:
        part = part_name(path.name).part
        columns = read_columns(path)
        if columns is None:
            why = "its first two lines are not those of a table of pixels"
            raise DataError(str(path), why, fix="make the header label,pixel0,pixel1,...")
        if columns.label is None or part not in ("train", "test", ""):
            left_out.append(f"{path.name}{' (no labels)' if columns.label is None else ''}")
        elif part in parts:
            raise DataError(str(path), f"a second {part} file", fix="pass one file as `data_dir`")
        else:
            images, labels = _read(path, columns)
            parts[part] = (upright(images) if key.startswith("emnist") else images), labels
    if "train" not in parts and "" not in parts:
        why = f"no training images with labels among {', '.join(path.name for path in files)}"
        raise DataError(str(files[0].parent), why, fix="put train.csv there, label,pixel0,...")
    notice = f"left out {', '.join(left_out)}" if left_out else ""
    origin = ", ".join(path.name for path in files if path.name not in notice)
    return make_dataset(key or "csv", parts, origin=origin, notice=notice)


def _read(path: Path, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    pixels = columns.number - 1
    if isqrt(pixels) ** 2 != pixels:
        why = f"{pixels} pixels in a row are no square of grey ones"
        raise DataError(str(path), why, fix="save the images as .npz or as files")
    images, labels, row = [], [], 1 + columns.header
    for lines in _batches(path, skip=int(columns.header)):
        where = f"{path}: lines {row:,} to {row + len(lines) - 1:,}"
        values = _numbers(where, [line for line in lines if line.strip()], columns)
        images.append(as_images(np.delete(values, columns.label or 0, axis=1), str(path)))
        labels.append(values[:, columns.label or 0])
        row += len(lines)
    if not images:
        raise DataError(str(path), "no rows below its header", fix=AGAIN)
    return np.concatenate(images), as_labels(np.concatenate(labels), str(path))


def _batches(path: Path, *, skip: int) -> Iterator[list[str]]:
    """Lines of the file, some at a time, without the first `skip`."""
    packed, size = path.stat().st_size, 0
    with open_text(path) as text:
        for _ in range(skip):
            text.readline(_LONGEST)
        lines = iter(lambda: text.readline(_LONGEST), "")
        while batch := list(islice(lines, _ROWS)):
            size += sum(map(len, batch))
            check_size(path, size // 4, packed=packed)  # a pixel is two to four characters
            if len(batch) == _ROWS or any(map(str.strip, batch)):  # the last lines may be empty
                yield batch


def _numbers(where: str, lines: list[str], columns: Columns) -> np.ndarray:
    """Whole numbers [rows, columns] of lines that are not empty."""
    fix = "save whole numbers, as many in each row as in the first"
    if not lines:
        raise DataError(where, "only empty lines", fix=AGAIN)
    if (plain := _plain_numbers(lines, columns)) is not None:
        return plain
    try:
        values = np.loadtxt(lines, comments=None, delimiter=",", quotechar='"', ndmin=2)
    except (ValueError, OverflowError) as error:
        raise DataError(where, str(error).partition(";")[0], fix=fix) from error
    if not np.array_equal(values, np.floor(values)) or np.abs(values).max() >= 2**31:
        raise DataError(where, "not all values are whole numbers, labels and pixels", fix=fix)
    if values.shape[1] != columns.number:
        why = f"{values.shape[1]} columns, not {columns.number}"
        raise DataError(where, why, fix=fix)
    return values.astype(np.int64)


def _plain_numbers(lines: list[str], columns: Columns) -> np.ndarray | None:
    """Rows of digits and commas only, 4 times as fast as `loadtxt`; None for others."""
    rows = [line.strip() for line in lines]
    text = ",".join(rows).encode()
    if text.translate(None, b"0123456789,") or b",," in b",%b," % text:
        return None
    if any(row.count(",") != columns.number - 1 for row in rows):
        return None
    values = np.fromstring(text, np.int64, sep=",")
    return values.reshape(len(rows), -1) if values.size == len(rows) * columns.number else None


def _words(line: str) -> list[str]:
    return [word.strip().strip('"') for word in line.split(",")] if line.strip() else []


def _is_number(word: str) -> bool:
    return word.removeprefix("-").isdecimal()
