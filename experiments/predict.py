"""Answers for pictures from a finished run.

    python -m experiments.predict RUN FILE ...          the likeliest classes of each
    python -m experiments.predict RUN DIR --csv         of all pictures below a folder
    python -m experiments.predict RUN FILE --show       every step as a picture, too

Photos become squares as in training. Where training saw characters on black, as MNIST's, drawings
and photos of them are brought to that form: docs/predict.md.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments.config import check_path
from mnistjax import cli
from mnistjax.data.found_pictures import find_pictures, named, refuse, shown
from mnistjax.errors import UsageError
from mnistjax.inference.calibration import check_temperature
from mnistjax.platforms import PLATFORMS, choose_platform


@dataclass(frozen=True, kw_only=True)
class PredictConfig(cli.Config):
    """Say what pictures show, by a finished run."""

    flag_of = {"model": "it to mj.load in Python,"}

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """A run directory, or a model.safetensors."""
    files: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE|DIR")]]
    """Pictures, and folders: all pictures below them; - is a picture on stdin."""
    top: int = 3
    """How many classes are told of each."""
    json: bool = False
    """One JSON object on stdout, and nothing else there."""
    csv: bool = False
    """CSV on stdout, and nothing else there."""
    show: bool = False
    """Write predict-<name>.png: every step from the picture to what the network sees."""
    output: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path()
    """Where --show writes."""
    segment: bool = False
    """Read several characters in one picture, from left to right."""
    skip_unreadable: bool = False
    """Leave out files that have no answer, and say so, instead of stopping."""
    temperature: float = 1.0
    """Divide logits by it: evaluate --calibrate says which makes probabilities honest."""
    platform: Annotated[str | None, tyro.conf.arg(metavar="|".join(PLATFORMS))] = None
    """Device kind; default: the best there is."""

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        UsageError.unless_in("--platform", self.platform or "cpu", PLATFORMS)
        check_path("run", self.run)
        check_path("output", self.output)
        if not self.files:
            raise UsageError("FILE|DIR", "no picture is named", fix="pass at least one")
        if self.top < 1:
            raise UsageError(f"--top {self.top}", "must be at least 1", fix="pass --top 3")
        if self.json and self.csv:
            raise UsageError("--json with --csv", "it says both", fix="drop one of them")
        check_temperature(self.temperature)


def main(config: PredictConfig) -> int:
    """Answer, and return 0."""
    found = find_pictures(config.files)
    choose_platform(config.platform)
    from mnistjax.inference.classifier import load
    from mnistjax.inference.files import answer_files
    from mnistjax.inference.steps import write_all_steps
    from mnistjax.inference.told import as_csv, as_json, as_lines

    classifier = load(config.run)
    temperature, segment = config.temperature, config.segment
    done, without = answer_files(classifier, found.files, segment=segment, temperature=temperature)
    if not config.skip_unreadable or not done:
        refuse(without)
    if without:
        print(f"note: left out, without an answer: {named(without)}", file=sys.stderr)
    if found.others:
        print(f"note: no pictures, and left out: {found.others:,} in folders", file=sys.stderr)
    if config.json:
        print(as_json(done, config.top, without, run=shown(config.run)))
    else:
        print(as_csv(done, config.top) if config.csv else "\n".join(as_lines(done, config.top)))
    for place in write_all_steps(config.output, done, classifier.form) if config.show else ():
        print(f"wrote {place}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(PredictConfig, main))
