"""EMNIST's ways: images that lie on their side, and classes that are characters.

Source: G. Cohen, S. Afshar, J. Tapson and A. van Schaik, EMNIST: an extension of MNIST to
handwritten letters, 2017 (arXiv:1702.05373), whose files come with `emnist-<split>-mapping.txt`.
"""

from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits

import numpy as np
from jaxtyping import UInt8

from mnistjax.data.plain import open_plain, read_up_to
from mnistjax.errors import DataError

_MERGED = digits + ascii_uppercase + "abdefghnqrt"  # the other small letters look like capitals
CHARACTERS = {
    "balanced": dict(enumerate(_MERGED)),
    "bymerge": dict(enumerate(_MERGED)),
    "byclass": dict(enumerate(digits + ascii_uppercase + ascii_lowercase)),
    "letters": dict(enumerate(ascii_uppercase, start=1)),
    "digits": dict(enumerate(digits)),
    "mnist": dict(enumerate(digits)),
}


def upright(
    images: UInt8[np.ndarray, "n height width c"],
) -> UInt8[np.ndarray, "n width height c"]:
    """The images as a person reads them: EMNIST's are written column by column."""
    return np.ascontiguousarray(images.transpose(0, 2, 1, 3))


def class_of(split: str, mapping: Path) -> dict[int, str] | None:
    """The character of each label, from the file `mapping` if it is there, else as published.

    A line is a label and the codes of its characters, `1 65 97`: the first names the class. None
    for a split that nobody has published. Raises `DataError` for a file of another form.

    >>> class_of("letters", Path("no-such-file"))[1]
    'A'
    """
    if not mapping.is_file():
        return CHARACTERS.get(split)
    with open_plain(mapping) as file:
        text = read_up_to(file, 2**16).decode("ascii", "replace")
    try:
        rows = [[int(word) for word in line.split()] for line in text.splitlines() if line.strip()]
        found = {row[0]: chr(row[1]) for row in rows}
    except (ValueError, IndexError, OverflowError):
        found = {}
    if len(set(found.values())) < 2 or not all(name.isprintable() for name in found.values()):
        why = "is no list of a label and the codes of its characters in each line"
        raise DataError(str(mapping), why, fix="get the file again, or remove it")
    return found
