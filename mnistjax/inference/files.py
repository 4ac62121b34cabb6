"""Many pictures answered: what cannot be is told with its reason, and the rest goes on."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from mnistjax.data.found_pictures import LeftOut, content, shown
from mnistjax.errors import DataError
from mnistjax.inference.classifier import Answers, Classifier
from mnistjax.inference.images import Image

BLOCK = 512  # pictures in memory at a time


class FileAnswers(NamedTuple):
    """What was said of one file: a row for each character in it, else one."""

    file: Path
    answers: Answers


def see_each(
    classifier: Classifier, images: Sequence[Image], *, segment: bool = False
) -> list[UInt8[np.ndarray, "n h w c"] | DataError]:
    """Each image as the network sees it, or why it cannot be; read by all cores."""

    def see(image: Image) -> np.ndarray | DataError:
        try:
            return classifier.see(image, segment=segment)
        except DataError as error:
            return error

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        return list(threads.map(see, images))


def answer_files(
    classifier: Classifier,
    files: Sequence[Path],
    *,
    segment: bool = False,
    temperature: float = 1.0,
) -> tuple[list[FileAnswers], list[LeftOut]]:
    """The answers for `files` in their order, and those that have none."""
    done: list[FileAnswers] = []
    left_out: list[LeftOut] = []
    for start in range(0, len(files), BLOCK):
        block = files[start : start + BLOCK]
        got = see_each(classifier, [content(file) for file in block], segment=segment)
        left_out += without_answer(map(shown, block), got)
        read = [(f, one) for f, one in zip(block, got, strict=True) if isinstance(one, np.ndarray)]
        if not read:
            continue
        logits = classifier.logits(np.concatenate([one for _, one in read]))
        ends = np.cumsum([len(one) for _, one in read])[:-1]
        for (file, _), rows in zip(read, np.split(logits, ends), strict=True):
            done.append(FileAnswers(file, classifier.answers(rows, temperature=temperature)))
    return done, left_out


def without_answer(names: Iterable[str], got: Sequence[np.ndarray | DataError]) -> list[LeftOut]:
    """Those of `see_each` that cannot be seen, by their names."""
    both = zip(names, got, strict=True)
    return [LeftOut(name, e.why, e.fix) for name, e in both if isinstance(e, DataError)]
