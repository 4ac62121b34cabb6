"""What becomes of a file on its way to the network, written as a picture."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mnistjax.data.folder_layout import printable
from mnistjax.data.found_pictures import content
from mnistjax.data.picture import read_picture
from mnistjax.disk import storage_errors
from mnistjax.inference.classifier import Answers
from mnistjax.inference.files import FileAnswers
from mnistjax.inference.images import DRAWN, ImageForm, as_drawing, as_photo

SEEN = "what the network sees"


def steps_of(file: Path, form: ImageForm) -> list[tuple[str, list[np.ndarray]]]:
    """The picture, then each step with its images: of characters ink and cut, of photos none."""
    source = content(file)
    picture = [read_picture(source, size=DRAWN, fit="pad")]
    if form.ink_side is None:
        return [("the picture", picture), (SEEN, [as_photo(source, form)])]
    drawn = as_drawing(source, form)
    return [
        ("the picture", picture),
        ("its ink", [drawn.ink]),
        ("cut out", drawn.characters),
        (SEEN, drawn.seen),
    ]


def write_steps(place: Path, file: Path, form: ImageForm, answers: Answers) -> Path:
    """Write `steps_of` with what was answered as a PNG; return the path."""
    from mnistjax.report.figures import save_png  # matplotlib: 1 s of import
    from mnistjax.report.steps import steps_figure

    said = [[f"{name} {share:.1%}" for name, share in top] for top in answers.top(3)]
    with storage_errors(place):
        save_png(steps_figure(steps_of(file, form), said), place)
    return place


def write_all_steps(
    directory: Path, done: Sequence[FileAnswers], form: ImageForm
) -> Iterator[Path]:
    """`write_steps` of each into `directory`, which is made; yield each path once written."""
    with storage_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    for place, (file, answers) in zip(places(directory, [d.file for d in done]), done, strict=True):
        yield write_steps(place, file, form, answers)


def places(directory: Path, files: list[Path]) -> Iterator[Path]:
    """`directory/predict-<name>.png` for each, numbered where names are the same.

    >>> [str(place) for place in places(Path("."), [Path("a/7.png"), Path("b/7.jpg")])]
    ['predict-7.png', 'predict-7-2.png']
    """
    taken: set[str] = set()
    for file in files:
        base = re.sub(r"[^\w.-]+", "_", printable(file.stem))[:60] or "picture"
        name, number = base, 1
        while name in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name)
        yield directory / f"predict-{name}.png"
