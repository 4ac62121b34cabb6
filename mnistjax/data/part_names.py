"""Which part of which set a file is, from its name: `emnist-letters-train-images-idx3-ubyte`."""

import re
from typing import NamedTuple

_WORDS = {"training": "train", "t10k": "test", "testing": "test", "valid": "val"}
_PART = re.compile(
    r"(?:^|(?<=[^a-z]))(train|training|test|testing|t10k|val|valid|validation|extra)(?=[^a-z]|$)"
)


class PartName(NamedTuple):
    """A set's name, "" if the file's has none; and train, test, val, extra, or "" for all of it."""

    key: str
    part: str


def part_name(name: str) -> PartName:
    """Read the name of a file, or of an array in it.

    >>> part_name("emnist-letters-train-images-idx3-ubyte.gz"), part_name("t10k-labels.idx1-ubyte")
    (PartName(key='emnist-letters', part='train'), PartName(key='', part='test'))
    >>> part_name("mnist_test.csv"), part_name("digits.csv").part
    (PartName(key='mnist', part='test'), '')
    """
    if found := _PART.search(name.lower()):
        word = found.group(1)
        part = "val" if word == "validation" else _WORDS.get(word, word)
        return PartName(name[: found.start()].rstrip("-_. "), part)
    return PartName(name.split(".")[0], "")
