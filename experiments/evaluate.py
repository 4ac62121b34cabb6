"""Score a finished run on any data set with its classes, and tell how sure it may be.

python -m experiments.evaluate RUN                       the run's own test set
python -m experiments.evaluate RUN --data-dir DIR        your own pictures, in folders
python -m experiments.evaluate RUN --calibrate           with a temperature of validation's
"""

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import tyro

from experiments.config import NAMES, RunConfig, check_path
from mnistjax import cli
from mnistjax.data.load import DATASETS, TFDS, dataset_name
from mnistjax.errors import UsageError
from mnistjax.inference.calibration import check_temperature
from mnistjax.platforms import PLATFORMS, choose_platform
from mnistjax.runs.directory import check_directory, reserved

PARTS = ("test", "validation", "train", "all")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(cli.Config):
    """Score a finished run on a data set, and write a report of it."""

    flag_of = RunConfig.flag_of | {"model": "it to mj.load in Python,"}

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """A run directory, or a model.safetensors."""
    dataset: Annotated[str, tyro.conf.arg(metavar="|".join(NAMES))] = "auto"
    """Default: what the run was trained on; of a model.safetensors as in training."""
    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Pictures in a folder per class, IDX, .npz, .csv, CIFAR, SVHN, .zip: docs/data.md."""
    part: Annotated[str, tyro.conf.arg(metavar="|".join(PARTS))] = "test"
    """Which split is scored; a folder without one has a fifth of every class as its test split."""
    allow_unverified_data: bool = False
    """Take IDX files whose SHA-256 is not MNIST's."""
    skip_unreadable: bool = False
    """Leave out pictures that cannot be read, and say so, instead of stopping."""
    calibrate: bool = False
    """Fit a temperature on what the run held out (not what is scored), and tell what it mends."""
    temperature: Annotated[float | None, tyro.conf.arg(metavar="T")] = None
    """Tell what this one mends instead."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where the report goes; default: runs/evaluate-<time>."""
    platform: Annotated[str | None, tyro.conf.arg(metavar="|".join(PLATFORMS))] = None
    """Device kind; default: the best there is."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dataset", dataset_name(self.dataset))

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        UsageError.unless_in("--platform", self.platform or "cpu", PLATFORMS)
        UsageError.unless_in("--part", self.part, PARTS)
        if not self.dataset.startswith(TFDS):
            UsageError.unless_in("--dataset", self.dataset, DATASETS)
        for name in ("run", "data_dir", "output"):
            check_path(name, getattr(self, name) or Path())
        check_temperature(1.0 if self.temperature is None else self.temperature)
        if self.calibrate and self.temperature is not None:
            raise UsageError("--calibrate with --temperature", "it says both", fix="drop one")

    def directory(self) -> AbstractContextManager[Path]:
        """Where the report goes, to be entered."""
        if self.output is None:
            return reserved(Path("runs"), f"evaluate-{time.strftime('%Y%m%d-%H%M%S')}")
        check_directory(self.output, resume=None)
        self.output.mkdir(parents=True, exist_ok=True)
        return nullcontext(self.output)


def main(config: EvaluateConfig) -> int:
    """Score and write the report; the exit code is 0."""
    choose_platform(config.platform)
    from mnistjax.inference.evaluate_run import evaluate_run
    from mnistjax.inference.own_data import Wanted

    asked = config.dataset != "auto" or config.data_dir is not None
    with config.directory() as directory:
        said = evaluate_run(
            config.run,
            directory,
            wanted=Wanted.by(vars(config)) if asked else None,
            part=cast(Any, config.part),
            temperature=config.temperature,
            calibrate=config.calibrate,
        )
    print(said)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(EvaluateConfig, main))
