"""What every experiment does around its training: device, data, splits, seeds, the result."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import jax
import numpy as np
from rich.markup import escape

from experiments.config import RunConfig
from mnistjax.data.dataset import Dataset, Split
from mnistjax.data.load import load_dataset
from mnistjax.data.picture import Fit, Photos
from mnistjax.data.split import part_validation, subset
from mnistjax.errors import UsageError
from mnistjax.models.summary import LayerRow
from mnistjax.platforms import choose_platform
from mnistjax.processes import is_leader
from mnistjax.report.begins import in_one_line
from mnistjax.report.console import console, show_once
from mnistjax.runs.options import RunOptions
from mnistjax.runs.plan import Plan
from mnistjax.runs.result import About, say_result, write_result
from mnistjax.runs.seeds import train_seeds
from mnistjax.runs.settings import Settings, settings_of
from mnistjax.runs.train_run import Trained, train_run
from mnistjax.training.batch_size import check_batch_size, check_divides, usual_batch_size
from mnistjax.training.losses import LossFn, loss_for

C = TypeVar("C", bound=RunConfig)


def over_seeds(config: C, train: Callable[[C, Path], Dataset], directory: Path) -> int:
    """`train`, with `--seeds` once for each, and what they are together; the exit code is 0."""
    show_once.cache_clear()
    console.quiet = not is_leader()
    if config.seeds == 1:
        train(config, directory)
        return 0

    def train_one(seed: int, place: Path, options: RunOptions) -> Dataset:
        one = {"seed": seed, "seeds": 1, "output": place, "resume": options.resume}
        return train(replace(config, **one), place)

    seeds = range(config.seed, config.seed + config.seeds)
    from mnistjax.inference.seeds_report import write_seeds  # 0.4 s of matplotlib and SciPy

    how = {"settings": settings_of(config), "options": run_options(config, directory)}
    trained = train_seeds(train_one, directory, seeds=seeds, **how)
    if is_leader():
        console.print(write_seeds(trained, trained.returned), highlight=False)
    trained.refuse_diverged()
    return 0


def load_data(config: RunConfig, *, image_size: int) -> Dataset:
    """Choose the devices and load the data the flags ask for; what is left out is said loudly."""
    choose_platform(
        config.platform,
        deterministic=config.deterministic,
        keep_programs=config.compilation_cache,
    )
    if config.batch_size is not None:
        check_divides(config.batch_size, jax.device_count())
    photos = Photos(
        size=image_size,
        fit=cast(Fit, config.fit),
        color=config.color or (False if config.grey else None),
        skip_unreadable=config.skip_unreadable,
        verify=config.verify,
    )
    data = load_dataset(
        config.dataset,
        config.data_dir,
        photos=photos,
        verify=not config.allow_unverified_data,
        limit_bytes=round(config.cache_limit * 2**30),
        quiet=config.quiet,
    )
    for name in config.photo_flags if data.name != "folder" else ():
        if getattr(config, name) != getattr(type(config)(), name):
            refuse_for(data, name)
    say_loudly(config, data.notice)
    return data


def refuse_for(data: Dataset, name: str) -> None:
    """Raise `UsageError` for a flag that only folders of pictures heed."""
    flag = f"--{name.replace('_', '-')}"
    raise UsageError(flag, f"is for folders of pictures, not for {data.name}", fix=f"drop {flag}")


def say(config: RunConfig, line: str) -> None:
    """A line for who wants to see more than the result."""
    if not config.quiet:
        console.print(line, highlight=False)


def say_loudly(config: RunConfig, notice: str) -> None:
    """A notice that no reader of the results may miss."""
    if notice:
        say(config, f"[bold yellow]NOTE[/]  {escape(notice)}")


def chosen_train(config: RunConfig, data: Dataset) -> Split:
    """The training examples that the flags ask for, before validation is held out."""
    return subset(data.train, size=config.train_size or len(data.train.labels), seed=config.seed)


def split_off(config: RunConfig, data: Dataset, examples: Split) -> tuple[Split, Split | None]:
    """(training, validation): the data's own, or a share of the `examples`."""
    return part_validation(data, examples, fraction=config.validation, seed=config.seed)


def fitted(config: C, examples: int) -> tuple[C, int]:
    """With what the preset sets, and a batch size that fits; `UsageError` for one too large."""
    given, config = config.batch_size, replace(config, **config.filled_in)
    usual = cast(int, config.batch_size)
    if given is not None:
        check_batch_size(given, examples)
        return config, given
    size = min(usual, usual_batch_size(examples, jax.device_count()))
    if size < usual:
        say(config, f"batch size {size}: there are {examples:,} training images (--batch-size)")
    return replace(config, batch_size=size), size


def loss_of(config: RunConfig, labels: np.ndarray, data: Dataset, smoothing: float) -> LossFn:
    """Cross-entropy, with labels smoothed and classes weighted as the flags ask for."""
    weights = len(data.class_names) if config.class_weights == "balanced" else None
    return loss_for(labels, smoothing=smoothing, weights=weights)


def banner(config: RunConfig, directory: Path, plan: Plan, data: Dataset) -> None:
    """One line of what is about to happen."""
    splits = plan.train, plan.validation
    say(config, in_one_line(data, splits, epochs=plan.epochs, directory=directory))


def show_model(config: RunConfig, layers: list[LayerRow], recipe: str) -> None:
    """What is trained how: a line and a table."""
    if not config.quiet:
        show_once(recipe, tuple(layers))


def run_options(config: RunConfig, directory: Path) -> RunOptions:
    """How the flags want the run to be kept."""
    place = str(directory)
    return RunOptions(
        resume=config.resume,
        keep=config.keep,
        tensorboard=config.tensorboard,
        quiet=config.quiet,
        save_steps=config.save_steps,
        save_minutes=config.save_minutes,
        log_every=config.log_every,
        again=f"python -m experiments.{config.experiment} --resume --output {shlex.quote(place)}",
    )


def train(config: RunConfig, plan: Plan, directory: Path, settings: Settings) -> Trained:
    """`plan` carried out as the flags want the run to be kept."""
    return train_run(plan, directory, settings=settings, options=run_options(config, directory))


def shared_facts(config: RunConfig) -> dict[str, Any]:
    """What the summary of every experiment says of its flags."""
    names = "batch_size", "learning_rate", "dtype", "seed", "class_weights"
    return {"experiment": config.experiment} | {name: getattr(config, name) for name in names}


def finish(config: RunConfig, directory: Path, trained: Trained, about: About) -> Dataset:
    """Score the test set once with what validation chose, write the report, say the result."""
    number = trained.best["epoch"]
    why = "the best in validation" if config.validation else "the last: nothing was held out"
    say(config, f"scoring the test set with epoch {number}, {why}")
    result = write_result(directory, trained, about)
    console.print(say_result(result), highlight=False)
    return about.data
