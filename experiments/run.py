"""What every experiment does around its training: device, data, splits, the banner, the report."""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.config import RunConfig
from experiments.score import score_and_report
from experiments.train import Trained, console
from mnistjax.data.batches import steps_per_epoch
from mnistjax.data.dataset import Dataset, Split
from mnistjax.data.load import load_dataset
from mnistjax.data.split import hold_out, subset
from mnistjax.errors import UsageError
from mnistjax.models.summary import LayerRow
from mnistjax.platforms import JAX_NAMES
from mnistjax.report.console import model_table
from mnistjax.training.parallel import check_divides

MIN_STEPS, MIN_EPOCHS, MAX_EPOCHS = 500, 5, 50


def load_data(config: RunConfig, *, image_size: int = 28, color: bool = False) -> Dataset:
    """Choose the devices and load the data the flags ask for; a fallback is said loudly."""
    if config.deterministic:  # read when the device is chosen, below
        flags = os.environ.get("XLA_FLAGS", ""), "--xla_gpu_deterministic_ops=true"
        os.environ["XLA_FLAGS"] = " ".join(flags).strip()
    if config.platform:
        jax.config.update("jax_platforms", JAX_NAMES[config.platform])
    try:
        jax.devices()
    except RuntimeError as error:
        fix = "pass --platform cpu, or install the extra for that device (cuda, tpu)"
        what = f"--platform {config.platform}"
        if config.platform is None:
            what, fix = f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS')}", "unset it, or set cpu"
        raise UsageError(what, f"no such device ({error})", fix=fix) from error
    check_divides(config.batch_size, jax.local_device_count(), what="--batch-size")
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


def say_loudly(config: RunConfig, notice: str) -> None:
    """A notice that no reader of the results may miss."""
    if notice and not config.quiet:
        console.print(f"[bold yellow]NOTE[/]  {notice}", highlight=False)


def chosen_train(config: RunConfig, data: Dataset) -> Split:
    """The training examples that the flags ask for, before validation is held out."""
    return subset(data.train, size=config.train_size or len(data.train.labels), seed=config.seed)


def split_off_validation(config: RunConfig, examples: Split) -> tuple[Split, Split]:
    """(training, validation); raise `UsageError` if a batch is larger than what is left."""
    train, validation = hold_out(examples, fraction=config.validation, seed=config.seed)
    if config.batch_size > len(train.labels):
        why = f"there are only {len(train.labels)} training examples"
        fix = f"pass --batch-size {min(128, len(train.labels))}"
        raise UsageError(f"--batch-size {config.batch_size}", why, fix=fix)
    return train, validation


def default_epochs(train_examples: int, batch_size: int) -> int:
    """5 epochs, or on a small set as many as make 500 steps, at most 50.

    >>> default_epochs(54_000, 128), default_epochs(1_293, 128)
    (5, 46)
    """
    enough = -(-MIN_STEPS // steps_per_epoch(train_examples, batch_size))
    return min(max(MIN_EPOCHS, enough), MAX_EPOCHS)


def banner(
    config: RunConfig,
    data: Dataset,
    directory: Path,
    layers: list[LayerRow],
    *,
    counts: tuple[int, int],
    epochs: int,
) -> None:
    """One line of what is about to happen, and the model as a table."""
    if config.quiet:
        return
    console.print(
        f"{data.name}: {counts[0]:,} training, {counts[1]:,} validation,"
        f" {len(data.test.labels):,} test images ({data.origin})"
        f" · {epochs} epochs · {_devices()} · {directory}",
        highlight=False,
    )
    console.print(model_table(layers))


def _devices() -> str:
    kind, count = jax.local_devices()[0].device_kind, jax.local_device_count()
    return kind if count == 1 else f"{count} x {kind}"


def finish(
    experiment: str,
    config: RunConfig,
    directory: Path,
    data: Dataset,
    trained: Trained,
    *,
    layers: list[LayerRow],
    counts: tuple[int, int],
    facts: dict[str, Any] | None = None,
    whole: Any = None,
    filters: np.ndarray,
    scored: Split | None = None,
    figures: dict[str, Any] | None = None,
    notice: str = "",
) -> int:
    """Score the test set once with what validation chose, write the report, say the result.

    `whole`: all parameters, where more than `trained.params` belong to the model; `scored`: what
    the step takes instead of the test images.
    """
    if not config.quiet:
        number = trained.best["epoch"]
        console.print(f"scoring the test set with epoch {number}, the best in validation")
    metrics, summary, report = score_and_report(
        directory,
        data,
        eval_step=trained.eval_step,
        params=trained.params,
        whole=trained.params if whole is None else whole,
        epochs=trained.epochs,
        best=trained.best,
        layers=layers,
        facts={"experiment": experiment}
        | {"train_examples": counts[0], "validation_examples": counts[1]}
        | {n: getattr(config, n) for n in ("batch_size", "learning_rate", "dtype", "seed")}
        | {"compile_seconds": trained.compile_seconds}
        | (facts or {}),
        filters=filters,
        scored=scored or data.test,
        figures=figures or {},
        notice=" ".join(part for part in (data.notice, notice) if part),
    )
    console.print(
        f"test accuracy [bold]{metrics.accuracy:.2%}[/]"
        f" ({metrics.count - metrics.correct} wrong of {metrics.count:,})"
        f" on {data.name} · {summary['train_seconds']:.0f} s of training"
        f" · parameters {summary['params_sha256'][:12]} · report {report}",
        highlight=False,
    )
    return 0
