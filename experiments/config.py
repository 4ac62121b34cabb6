"""The flags every experiment shares, and their checks: all of it before jax is imported."""

import dataclasses
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from mnistjax.cli import Config
from mnistjax.data.load import DATASETS
from mnistjax.errors import StorageError, UsageError
from mnistjax.platforms import PLATFORMS

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class RunConfig(Config):
    dataset: Annotated[str, tyro.conf.arg(metavar="|".join(DATASETS))] = "auto"
    """auto: --data-dir if given, else MNIST from the cache or the network, else digits."""
    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """IDX files (.gz or plain), or one sub-folder of PNG/JPEG images per class."""
    allow_unverified_data: bool = False
    """Take IDX files whose SHA-256 is not MNIST's (a look-alike set)."""
    train_size: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Use only N training examples, a seeded stratified sample; default: all."""
    validation: float = 0.1
    """Share of the training examples held out, seeded and stratified."""
    epochs: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Passes over the data; default: 5, on small sets up to 50, to make 500 steps."""
    batch_size: int = 128
    """Examples per step."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    early_stopping: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Stop after N epochs without a lower validation loss; default: never."""
    seed: int = 0
    """Decides the split, the first parameters and the order of examples."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Run directory; default: runs/<experiment>-<time>."""
    resume: bool = False
    """Go on where the run in --output (default: the newest one) stopped."""
    keep: int = 2
    """Newest checkpoints to keep, at least 2, besides the best."""
    deterministic: bool = False
    """On a GPU: the same bits in every run, at some speed. A CPU gives them anyway."""
    dtype: Annotated[str, tyro.conf.arg(metavar="|".join(DTYPES))] = "float32"
    """What the model computes in; bfloat16 is fast on GPUs, TPUs and for VGG16 on some CPUs."""
    platform: Annotated[str | None, tyro.conf.arg(metavar="|".join(PLATFORMS))] = None
    """Device kind; default: the best there is."""
    tensorboard: bool = False
    """Write TensorBoard events too (needs the extra: pip install 'mnistjax[tensorboard]')."""
    quiet: bool = False
    """Print errors and the last line only."""

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        UsageError.unless_in("--dataset", self.dataset, DATASETS)
        UsageError.unless_in("--dtype", self.dtype, DTYPES)
        UsageError.unless_in("--platform", self.platform or "cpu", PLATFORMS)
        for name in ("train_size", "epochs", "batch_size", "early_stopping"):
            value = getattr(self, name)
            if value is not None and value < 1:
                _refuse(name, value, "must be at least 1")
        if self.keep < 2:
            _refuse("keep", self.keep, "a damaged checkpoint needs one before it", "2")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            _refuse("learning_rate", self.learning_rate, "must be a positive number", "0.001")
        if not 0 < self.validation < 1:
            _refuse("validation", self.validation, "must lie between 0 and 1", "0.1")
        if not 0 <= self.seed < 2**32:  # jax wraps a larger seed without a word
            _refuse("seed", self.seed, "must lie in 0..4294967295", "0")
        for name in ("data_dir", "output"):
            if (path := getattr(self, name)) is not None:
                check_path(name, path)
        if self.dataset == "folder" and self.data_dir is None:
            _refuse("dataset", "folder", "needs --data-dir", "folder --data-dir DIR")
        if self.dataset == "digits" and self.data_dir is not None:
            _refuse("data_dir", self.data_dir, "is not used by --dataset digits", None)

    def run_directory(self, experiment: str) -> Path:
        """The directory of this run, made by nobody yet; raise `StorageError` if it cannot be."""
        if self.output is None and self.resume:
            runs = sorted(Path("runs").glob(f"{experiment}-*/config.json"))
            if not runs:
                fix = "pass --output DIR, or drop --resume to start one"
                raise StorageError("--resume", "there is no earlier run under runs/", fix=fix)
            return max(runs, key=lambda path: path.stat().st_mtime).parent
        stamp = time.strftime("%Y%m%d-%H%M%S")
        directory = self.output or Path("runs") / f"{experiment}-{stamp}"
        has_run = (directory / "config.json").is_file()
        if self.resume and not has_run:
            fix = "pass the --output of an earlier run, or drop --resume"
            raise StorageError(f"--output {directory}", "there is no run to resume", fix=fix)
        if not self.resume and directory.is_dir() and any(map(_counts, directory.iterdir())):
            fix = "add --resume to go on with it" if has_run else "pass an empty or new directory"
            raise StorageError(f"--output {directory}", "is not empty", fix=fix)
        parent = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        if not parent.is_dir():
            why = f"{parent} is a file"
            raise StorageError(f"--output {directory}", why, fix="pass another --output")
        return directory

    def as_json(self) -> dict:
        """Every flag as plain JSON."""
        pairs = dataclasses.asdict(self).items()
        return {name: str(value) if isinstance(value, Path) else value for name, value in pairs}


def _counts(path: Path) -> bool:
    """Whether it makes a directory used: a lock or a half-written file of a killed start do not."""
    return not path.name.startswith(".") and path.suffix != ".part"


def check_path(name: str, path: Path) -> None:
    """Raise `UsageError` for a path that no file system has."""
    if any(ord(character) < 32 or ord(character) == 127 for character in str(path)):
        _refuse(name, ascii(str(path)), "holds a control character", "DIR")
    if max((len(os.fsencode(part)) for part in path.parts), default=0) > 255:
        _refuse(name, f"{str(path)[:40]}...", "holds a name of more than 255 bytes", "DIR")


def _refuse(name: str, value: object, why: str, good: str | None = "1") -> None:
    flag = f"--{name.replace('_', '-')}"
    fix = f"drop {flag}" if good is None else f"pass {flag} {good}"
    raise UsageError(f"{flag} {value}", why, fix=fix)
