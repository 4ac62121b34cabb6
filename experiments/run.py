"""From a configuration and a model to a finished run directory: what every experiment shares."""

import sys
import time
from collections import deque
from dataclasses import astuple
from pathlib import Path
from typing import Any

import jax
import optax
from flax import nnx
from rich.console import Console

from experiments.config import RunConfig
from experiments.resume import check_same_run, so_far
from experiments.score import score_and_report
from mnistjax.data.batches import epoch_order, on_device, steps_per_epoch, take_batch
from mnistjax.data.dataset import Dataset, Split
from mnistjax.data.load import load_dataset
from mnistjax.data.split import hold_out, subset
from mnistjax.errors import StorageError, UsageError
from mnistjax.models.functional import functional
from mnistjax.models.summary import summarise
from mnistjax.report.console import TrainingDisplay, model_table
from mnistjax.report.files import write_json
from mnistjax.training.checkpoint import Checkpoints, abstract
from mnistjax.training.compile import compile_for
from mnistjax.training.evaluate import make_eval_step
from mnistjax.training.log import MetricsLog, best_epoch
from mnistjax.training.loop import EpochEnd, Interrupted, StepEnd, fit
from mnistjax.training.metrics import Metrics
from mnistjax.training.signals import StopSignals
from mnistjax.training.state import TrainState, init_state
from mnistjax.training.step import TrainStep, make_train_step

MIN_STEPS, MIN_EPOCHS, MAX_EPOCHS = 500, 5, 50

console = Console(soft_wrap=True)


def load_data(config: RunConfig, *, image_size: int = 28, color: bool = False) -> Dataset:
    """Choose the device and load the data the flags ask for; a fallback is said loudly."""
    if config.platform:
        jax.config.update("jax_platforms", config.platform)
    try:
        jax.devices()
    except RuntimeError as error:
        fix = "pass --platform cpu, or install the extra for that device (cuda, tpu)"
        raise UsageError(f"--platform {config.platform}", "no such device", fix=fix) from error
    data = load_dataset(
        config.dataset,
        config.data_dir,
        image_size=image_size,
        color=color,
        verify=not config.allow_unverified_data,
        quiet=config.quiet,
    )
    if data.notice and not config.quiet:
        console.print(f"[bold yellow]NOTE[/]  {data.notice}", highlight=False)
    return data


def default_epochs(train_examples: int, batch_size: int) -> int:
    """5 epochs, or on a small set as many as make 500 steps, at most 50.

    >>> default_epochs(54_000, 128), default_epochs(1_293, 128)
    (5, 46)
    """
    enough = -(-MIN_STEPS // steps_per_epoch(train_examples, batch_size))
    return min(max(MIN_EPOCHS, enough), MAX_EPOCHS)


def train_and_report(
    experiment: str,
    config: RunConfig,
    directory: Path,
    data: Dataset,
    model: nnx.Module,
    *,
    tx: optax.GradientTransformation,
) -> int:
    """Train `model` on `data`, choose by validation, score the test set once, write the report."""
    size = config.train_size or len(data.train.labels)
    train, validation = hold_out(
        subset(data.train, size=size, seed=config.seed),
        fraction=config.validation,
        seed=config.seed,
    )
    if config.batch_size > len(train.labels):
        why = f"there are only {len(train.labels)} training examples"
        fix = f"pass --batch-size {min(128, len(train.labels))}"
        raise UsageError(f"--batch-size {config.batch_size}", why, fix=fix)
    epochs = config.epochs or default_epochs(len(train.labels), config.batch_size)

    layers = summarise(model, data.image_shape)
    apply_fn, params = functional(model)
    if not config.quiet:
        device = jax.devices()[0]
        console.print(
            f"{data.name}: {len(train.labels):,} training, {len(validation.labels):,} validation,"
            f" {len(data.test.labels):,} test images ({data.origin})"
            f" · {epochs} epochs · {device.device_kind} · {directory}",
            highlight=False,
        )
        console.print(model_table(layers))

    state = init_state(params, tx)
    train_step, compile_seconds = compile_step(
        make_train_step(apply_fn=apply_fn, tx=tx), state, train, batch_size=config.batch_size
    )
    eval_step = make_eval_step(apply_fn=apply_fn)
    settings = config.as_json() | {"dataset_sha256": data.sha256}
    if config.resume:
        check_same_run(directory, settings)
    _make_directory(directory)
    write_json(directory / "config.json", settings)

    with Checkpoints(directory / "checkpoints", keep=config.keep) as checkpoints:
        like = abstract(state)
        begun, step = (Metrics.zero(), 0.0), 0
        if config.resume and checkpoints.steps:
            step = checkpoints.steps[-1]
            state, extra = checkpoints.restore(step, like=like)
            begun = so_far(extra)
        total = epochs * steps_per_epoch(len(train.labels), config.batch_size)
        display = TrainingDisplay(console, total=total, epochs=epochs, quiet=config.quiet)
        speed = _Speed(config.batch_size)
        log = MetricsLog(directory, upto=step, tensorboard=config.tensorboard)
        with log, StopSignals() as stop, display:
            events = fit(
                state,
                train_step=train_step,
                eval_step=eval_step,
                train=train,
                validation=validation,
                epochs=epochs,
                batch_size=config.batch_size,
                seed=config.seed,
                so_far=begun,
                should_stop=lambda: stop.requested,
            )
            for event in events:
                step = event.step
                if isinstance(event, StepEnd):
                    rate = speed.step()
                elif isinstance(event, EpochEnd):
                    rate = len(train.labels) / event.train_seconds
                    checkpoints.save(step, event.state, extra={}, score=-event.validation.loss)
                    speed = _Speed(config.batch_size)
                else:
                    checkpoints.save(step, event.state, extra=_unfinished(event))
                    break
                log.add(event, images_per_second=rate)
                display.show(event, images_per_second=rate)
                if isinstance(event, EpochEnd) and _patience_over(config, log.epochs):
                    break
        if stop.number is not None:
            again = f"python -m experiments.{experiment} --resume --output {directory}"
            print(f"interrupted: step {step} is saved. Fix: {again} goes on", file=sys.stderr)
            return 128 + stop.number
        best = best_epoch(log.epochs)
        params = checkpoints.restore(best["step"], like=like).state.params

    if not config.quiet:
        console.print(f"scoring the test set with epoch {best['epoch']}, the best in validation")
    counts = {"train_examples": len(train.labels), "validation_examples": len(validation.labels)}
    metrics, summary, report = score_and_report(
        directory,
        data,
        eval_step=eval_step,
        params=params,
        epochs=log.epochs,
        layers=layers,
        facts={"experiment": experiment}
        | counts
        | {name: settings[name] for name in ("batch_size", "learning_rate", "seed")}
        | {"compile_seconds": compile_seconds},
    )
    console.print(
        f"test accuracy [bold]{metrics.accuracy:.2%}[/]"
        f" ({metrics.count - metrics.correct} wrong of {metrics.count:,})"
        f" on {data.name} · {summary['train_seconds']:.0f} s of training · report {report}",
        highlight=False,
    )
    return 0


def compile_step(
    train_step: jax.stages.Wrapped, state: TrainState, train: Split, *, batch_size: int
) -> tuple[TrainStep, float]:
    """Compile for these shapes before the first step, and say how many seconds it took."""
    images, labels = on_device(train)
    row = epoch_order(0, 0, count=len(train.labels), batch_size=batch_size)[0]
    return compile_for(train_step, state, take_batch(images, labels, row))


class _Speed:
    """Images per second over the last twenty steps."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size, self._times = batch_size, deque([time.perf_counter()], maxlen=21)

    def step(self) -> float:
        self._times.append(time.perf_counter())
        seconds = self._times[-1] - self._times[0]
        return (len(self._times) - 1) * self._batch_size / seconds


def _unfinished(event: Interrupted) -> dict[str, Any]:
    return {"so_far": list(astuple(event.train)), "train_seconds": event.train_seconds}


def _patience_over(config: RunConfig, epochs: list[dict[str, Any]]) -> bool:
    if config.early_stopping is None:
        return False
    return epochs[-1]["epoch"] - best_epoch(epochs)["epoch"] >= config.early_stopping


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ".probe").touch()
        (directory / ".probe").unlink()
    except OSError as error:
        why = error.strerror or str(error)
        fix = "pass an --output that can be written"
        raise StorageError(f"--output {directory}", why, fix=fix) from error
