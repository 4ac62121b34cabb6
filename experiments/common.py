"""What every experiment does around its training: device, data, splits, the banner, the result."""

import shlex
from pathlib import Path
from typing import Any

import jax

from experiments.config import RunConfig
from mnistjax.data.batches import steps_per_epoch
from mnistjax.data.dataset import Dataset, Split
from mnistjax.data.load import load_dataset
from mnistjax.data.split import part_off, subset
from mnistjax.models.summary import LayerRow
from mnistjax.platforms import choose_platform
from mnistjax.report.console import console, model_table
from mnistjax.runs.options import RunOptions
from mnistjax.runs.result import About, say_result, write_result
from mnistjax.runs.settings import Setting, settings_of
from mnistjax.runs.train_run import Trained
from mnistjax.training.batch_size import check_batch_size, check_divides

MIN_STEPS, MIN_EPOCHS, MAX_EPOCHS = 500, 5, 50


def load_data(config: RunConfig, *, image_size: int = 28, color: bool = False) -> Dataset:
    """Choose the devices and load the data the flags ask for; a fallback is said loudly."""
    choose_platform(config.platform, deterministic=config.deterministic)
    check_divides(config.batch_size, jax.local_device_count())
    data = load_dataset(
        config.dataset,
        config.data_dir,
        image_size=image_size,
        color=color,
        verify=not config.allow_unverified_data,
        quiet=config.quiet,
    )
    say_loudly(config, data.notice)
    return data


def say(config: RunConfig, line: str) -> None:
    """A line for who wants to see more than the result."""
    if not config.quiet:
        console.print(line, highlight=False)


def say_loudly(config: RunConfig, notice: str) -> None:
    """A notice that no reader of the results may miss."""
    if notice:
        say(config, f"[bold yellow]NOTE[/]  {notice}")


def chosen_train(config: RunConfig, data: Dataset) -> Split:
    """The training examples that the flags ask for, before validation is held out."""
    return subset(data.train, size=config.train_size or len(data.train.labels), seed=config.seed)


def split_off_validation(config: RunConfig, examples: Split) -> tuple[Split, Split | None]:
    """(training, validation); raise `UsageError` if a batch is larger than what is left."""
    train, validation = part_off(examples, fraction=config.validation, seed=config.seed)
    check_batch_size(config.batch_size, len(train.labels))
    return train, validation


def default_epochs(train_examples: int, batch_size: int) -> int:
    """5 epochs, or on a small set as many as make 500 steps, at most 50.

    >>> default_epochs(54_000, 128), default_epochs(1_293, 128)
    (5, 46)
    """
    enough = -(-MIN_STEPS // steps_per_epoch(train_examples, batch_size))
    return min(max(MIN_EPOCHS, enough), MAX_EPOCHS)


def banner(
    config: RunConfig, directory: Path, splits: tuple[Split, Split | None, Dataset], epochs: int
) -> None:
    """One line of what is about to happen, to the training and validation split of a data set."""
    train, validation, data = splits
    kind, count = jax.local_devices()[0].device_kind, jax.local_device_count()
    held_out = f"{len(validation.labels):,}" if validation else "no"
    say(
        config,
        f"{data.name}: {len(train.labels):,} training, {held_out} validation,"
        f" {len(data.test.labels):,} test images ({data.origin}) · {epochs} epochs"
        f" · {kind if count == 1 else f'{count} x {kind}'} · {directory}",
    )


def show_model(config: RunConfig, layers: list[LayerRow]) -> None:
    """The model as a table."""
    if not config.quiet:
        console.print(model_table(layers))


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


def settings(
    config: RunConfig, epochs: Setting, **digests: tuple[str, tuple[str, ...]]
) -> dict[str, Setting]:
    """Every flag as a setting of the run, and digests with the flags that decide them."""
    given = {name: Setting(sha256, given_by=flags) for name, (sha256, flags) in digests.items()}
    return settings_of(config) | {"epochs": epochs} | given


def shared_facts(config: RunConfig) -> dict[str, Any]:
    """What the summary of every experiment says of its flags."""
    names = "batch_size", "learning_rate", "dtype", "seed"
    return {"experiment": config.experiment} | {name: getattr(config, name) for name in names}


def finish(config: RunConfig, directory: Path, trained: Trained, about: About) -> int:
    """Score the test set once with what validation chose, write the report, say the result."""
    number = trained.best["epoch"]
    why = "the best in validation" if config.validation else "the last: nothing was held out"
    say(config, f"scoring the test set with epoch {number}, {why}")
    result = write_result(directory, trained, about)
    console.print(say_result(result), highlight=False)
    return 0
