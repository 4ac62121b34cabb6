"""The flags every experiment shares, and their checks: all of it before jax is imported."""

from collections.abc import Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from mnistjax.cli import MayChange
from mnistjax.cli_processes import ProcessFlags
from mnistjax.data.load import DATASETS, TFDS, dataset_name
from mnistjax.data.picture import FITS
from mnistjax.errors import UsageError
from mnistjax.flag_checks import check_least, check_path, check_positive, refuse
from mnistjax.platforms import PLATFORMS
from mnistjax.runs.directory import check_directory, newest_run, place_of_run
from mnistjax.runs.options import RunOptions
from mnistjax.runs.resumed import as_it_was
from mnistjax.training.batch_size import USUAL

C = TypeVar("C", bound="RunConfig")
FILLED_IN = "batch_size", "learning_rate"
COUNTS = "train_size", "epochs", "batch_size", "accumulate", "early_stopping", "save_steps"
COUNTS += "log_every", "seeds"
POSITIVE = {"learning_rate": "0.001", "save_minutes": "10", "cache_limit": "8"}
DTYPES, NAMES = ("float32", "bfloat16"), (*DATASETS, "tfds:NAME")


@dataclass(frozen=True, kw_only=True)
class RunConfig(ProcessFlags):
    experiment = ""
    photo_flags = ("color", "grey", "fit", "skip_unreadable", "verify")
    flag_of = {
        "name": "--dataset",
        "source": "--weights",
        "directory": "--output",
        "size": "--train-size",
        "verify=False": "--allow-unverified-data",
    }

    dataset: MayChange[Annotated[str, tyro.conf.arg(metavar="|".join(NAMES))]] = "auto"
    """auto: --data-dir if given, else MNIST from the cache or the network, else digits."""
    data_dir: MayChange[Annotated[Path | None, tyro.conf.arg(metavar="DIR")]] = None
    """Pictures in a folder per class, IDX, .npz, .csv, CIFAR, SVHN, .zip: docs/data.md."""
    allow_unverified_data: MayChange[bool] = False
    """Take IDX files whose SHA-256 is not MNIST's (a look-alike set)."""
    fit: Annotated[str, tyro.conf.arg(metavar="|".join(FITS))] = "crop"
    """How pictures of a folder become square: cut, filled up, or squeezed."""
    color: bool = False
    """RGB, even if no picture of a folder has colours; default: where any has."""
    grey: bool = False
    """Grey, even if pictures of a folder have colours."""
    skip_unreadable: MayChange[bool] = False
    """Leave out files of a folder that cannot be read, and say so, instead of stopping."""
    verify: MayChange[bool] = False
    """Know pictures read before by their contents, not by their names, sizes and times."""
    cache_limit: MayChange[Annotated[float, tyro.conf.arg(metavar="GIB")]] = 8.0
    """All pictures kept, and all features; those used longest ago go first."""
    class_weights: Annotated[str, tyro.conf.arg(metavar="none|balanced")] = "none"
    """balanced: all classes count the same, however few examples one has."""
    train_size: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Use only N training examples, a seeded stratified sample; default: all."""
    validation: float = 0.1
    """Share of the training examples held out to choose the epoch; 0: none, the last is taken."""
    epochs: MayChange[Annotated[int | None, tyro.conf.arg(metavar="N")]] = None
    """Passes over the data; default: the preset's, on small sets up to 50, for 500 steps."""
    batch_size: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Examples per step; default: the preset's, fewer on small sets."""
    accumulate: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Cut each step's batch in N: less memory, the same update (statistics are a portion's)."""
    learning_rate: Annotated[float | None, tyro.conf.arg(metavar="RATE")] = None
    """Adam's step size; default: the preset's."""
    find_mislabelled: MayChange[bool] = False
    """Rank training images by how wrong their labels look: suspects.csv, and in the report."""
    early_stopping: MayChange[Annotated[int | None, tyro.conf.arg(metavar="N")]] = None
    """Stop after N epochs without a lower validation loss; default: never."""
    seed: int = 0
    """Decides the split, the first parameters and the order of examples."""
    seeds: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Train N networks, with --seed and the numbers after it: mean, interval, ensemble."""
    output: MayChange[Annotated[Path | None, tyro.conf.arg(metavar="DIR")]] = None
    """Run directory; default: runs/<experiment>-<time>."""
    resume: MayChange[bool] = False
    """Go on where the run in --output (default: the newest one) stopped."""
    keep: MayChange[int] = 2
    """Newest checkpoints to keep, at least 2, besides the best."""
    deterministic: MayChange[bool] = False
    """On a GPU: the same bits in every run, at some speed. A CPU gives them anyway."""
    dtype: Annotated[str, tyro.conf.arg(metavar="|".join(DTYPES))] = "float32"
    """What the model computes in; bfloat16 is fast on GPUs, TPUs and for VGG16 on some CPUs."""
    platform: MayChange[Annotated[str | None, tyro.conf.arg(metavar="|".join(PLATFORMS))]] = None
    """Device kind; default: the best there is."""
    compilation_cache: MayChange[bool] = True
    """Compile once, for later runs too; --no-compilation-cache: in every run."""
    save_steps: MayChange[Annotated[int | None, tyro.conf.arg(metavar="N")]] = None
    """Save within an epoch, too, every N steps; SIGUSR1 saves at once."""
    save_minutes: MayChange[Annotated[float | None, tyro.conf.arg(metavar="N")]] = None
    """Save within an epoch, too, every N minutes."""
    log_every: MayChange[int] = 1
    """Write every Nth step to metrics.jsonl; epochs all."""
    tensorboard: MayChange[bool] = False
    """Write TensorBoard events too (needs the extra: pip install 'mnistjax[tensorboard]')."""
    quiet: MayChange[bool] = False
    """Print errors and the last line only."""

    @property
    def filled_in(self) -> dict[str, Any]:
        """Flags that a preset fills in, filled in."""
        return {"batch_size": USUAL, "learning_rate": 1e-3} | self.given(*FILLED_IN)

    def given(self, *names: str) -> dict[str, Any]:
        """Those of `names` that a flag sets, instead of a preset."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def __post_init__(self) -> None:
        object.__setattr__(self, "dataset", dataset_name(self.dataset))

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        super().validate()
        UsageError.unless_in("--dtype", self.dtype, DTYPES)
        UsageError.unless_in("--platform", self.platform or "cpu", PLATFORMS)
        for name in COUNTS:
            check_least(name, getattr(self, name), 1)
        RunOptions(keep=self.keep)
        for name, good in POSITIVE.items():
            check_positive(name, getattr(self, name), good)
        if not 0 <= self.validation < 1:
            refuse("validation", self.validation, "must be 0, or lie between 0 and 1", "0.1")
        if not self.validation and self.early_stopping is not None:
            why = "needs examples held out that tell whether an epoch was better"
            refuse("early_stopping", self.early_stopping, why, None)
        if not 0 <= self.seed <= 2**32 - self.seeds:  # jax wraps a larger one without a word
            refuse("seed", self.seed, f"must lie in 0..{2**32 - self.seeds}", "0")
        self._validate_pictures()
        self._validate_paths()

    def _validate_pictures(self) -> None:
        UsageError.unless_in("--fit", self.fit, FITS)
        UsageError.unless_in("--class-weights", self.class_weights, ("none", "balanced"))
        if self.color and self.grey:
            refuse("color", "with --grey", "it says both", None)

    def _validate_paths(self) -> None:
        if not self.dataset.startswith(TFDS):
            UsageError.unless_in("--dataset", self.dataset, DATASETS)
        for name in ("data_dir", "output"):
            if (path := getattr(self, name)) is not None:
                check_path(name, path)
        if self.dataset == "folder" and self.data_dir is None:
            refuse("dataset", "folder", "needs --data-dir", "folder --data-dir DIR")
        if self.dataset == "digits" and self.data_dir is not None:
            refuse("data_dir", self.data_dir, "is not used by --dataset digits", None)

    def completed(self: C, given: Set[str]) -> C:
        """With `--resume`, what is not `given` is as the run was made with: its `config.json`."""
        if not self.resume:
            return self
        output = self.output or newest_run(Path("runs"), self.experiment)
        check_directory(output, resume=True)
        asked_now = given | {"output", "resume", "quiet", *ProcessFlags.__dataclass_fields__}
        return replace(as_it_was(self, output, but=asked_now), output=output)

    def run_directory(self) -> AbstractContextManager[Path]:
        """The directory of this run, to be entered; raise `StorageError` if it cannot be one."""
        if not self.join():  # process 0 has it
            return nullcontext(self.output or Path("runs"))
        return place_of_run(self.output, experiment=self.experiment, resume=self.resume)
