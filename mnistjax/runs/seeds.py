"""The same training with several seeds: each a run of its own, one after another."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from mnistjax.errors import NumericalError, Stopped
from mnistjax.processes import is_leader, share
from mnistjax.report.console import console
from mnistjax.runs.claim import claim_directory
from mnistjax.runs.directory import CONFIG, check_directory, read_config
from mnistjax.runs.options import RunOptions
from mnistjax.runs.run import Run
from mnistjax.runs.settings import Setting, Settings, write_config

TrainOne = Callable[[int, Path, RunOptions], Any]
"""`(seed, directory, options)`: train one network to its end, or go on with it."""


class Seeds(NamedTuple):
    """What `train_seeds` left."""

    directory: Path
    runs: dict[int, Run]
    """The runs that ended, by their seeds."""
    diverged: dict[int, str]
    """Why the others did not."""
    returned: Any = None
    """What the last call returned that ended: of all of them it would keep all data sets."""

    def refuse_diverged(self) -> None:
        """Raise `NumericalError` that names every seed whose numbers were lost."""
        if self.diverged:
            names = ", ".join(map(str, self.diverged))
            first = next(iter(self.diverged.values()))
            of = f"{len(self.diverged)} of {len(self.runs) + len(self.diverged)} diverged"
            fix = "pass a smaller `learning_rate` and another `directory`"
            raise NumericalError(f"seed {names}", f"{of}; the first: {first}", fix=fix)


def train_seeds(
    train_one: TrainOne,
    directory: Path | str,
    *,
    seeds: Sequence[int],
    settings: Settings | None = None,
    options: RunOptions | None = None,
) -> Seeds:
    """Call `train_one` for each of `seeds`, in `directory/seed-<seed>`: the run it would be alone.

    To the bit, resuming included: members are trained in turn. On two cores four CNNs took 30 ms a
    step so, 29 in a `lax.map` and 31 to 34 under `vmap` (docs/recipes.md). With `options.resume`
    those begun go on, and `seeds` may be more than before; with fewer the rest is left alone. A
    member that diverges does not stop the others. Raises `Stopped` and `StorageError` as
    `train_run`, and `NumericalError` if all diverged.

    >>> import tempfile, mnistjax as mj, numpy as np
    >>> digits, hush = mj.load_dataset("digits"), mj.RunOptions(quiet=True)
    >>> def linear(params, images):
    ...     return images.reshape(len(images), -1) @ params["w"]
    >>> def train_one(seed, directory, options):
    ...     w = np.random.default_rng(seed).normal(0, 0.1, (784, 10)).astype(np.float32)
    ...     mj.train((linear, {"w": w}), digits, directory, seed=seed, epochs=1, options=options)
    >>> with tempfile.TemporaryDirectory() as place:
    ...     mj.train_seeds(train_one, place, seeds=[7], options=hush).runs[7].directory.name
    'seed-7'
    """
    directory, options = Path(directory), options or RunOptions()
    if is_leader():
        _claim(directory, len(seeds), settings or {}, resume=options.resume)
    trained = Seeds(directory, {}, {})
    for number, seed in enumerate(seeds, 1):
        member = directory / f"seed-{seed}"
        if not options.quiet:
            console.print(f"[bold]seed {seed}[/] · {number} of {len(seeds)}", highlight=False)
        try:
            begun = share((member / CONFIG).is_file())
            returned = train_one(seed, member, replace(options, resume=begun))
        except NumericalError as error:
            trained.diverged[seed] = error.why
        except Stopped as stopped:
            fix = f"{options.again} goes on"
            raise Stopped(stopped.signal, f"seed {seed}: {stopped.why}", fix=fix) from None
        else:
            trained.runs[seed] = Run(member)
            trained = trained._replace(returned=returned)
    if not trained.runs:
        trained.refuse_diverged()
    return trained


def _claim(directory: Path, count: int, settings: Settings, *, resume: bool) -> None:
    """Make `directory` that of `count` seeds; a run of one does not become one of several."""
    check_directory(directory, resume=resume)
    several = resume and read_config(directory).get("seeds", 1) > 1
    settings = {**settings, "seeds": Setting(count, may_change=several, absent=1)}
    claim_directory(directory, settings, resume=resume)
    if resume:
        write_config(directory, settings)
