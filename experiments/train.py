"""Training as every experiment does it: stages, checkpoints, progress, signals, resume."""

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
from rich.console import Console

from experiments.config import RunConfig
from experiments.diverged import explained
from experiments.resume import check_same_run, made_with, refuse_lost_checkpoints, so_far
from mnistjax.data.batches import (
    Batch,
    epoch_order,
    on_device,
    steps_per_epoch,
    take_batch,
    to_unit,
)
from mnistjax.data.dataset import Split
from mnistjax.errors import StorageError
from mnistjax.files import write_json
from mnistjax.models.functional import ApplyFn, Params
from mnistjax.report.console import TrainingDisplay
from mnistjax.runs.checkpoint import Checkpoints, abstract
from mnistjax.runs.lock import hold
from mnistjax.runs.log import MetricsLog, best_epoch, by_loss
from mnistjax.runs.signals import StopSignals
from mnistjax.training.compile import compile_for
from mnistjax.training.evaluate import EvalStep, make_eval_step
from mnistjax.training.freeze import Mask
from mnistjax.training.groups import retarget
from mnistjax.training.loop import EpochEnd, Interrupted, StepEnd, fit
from mnistjax.training.metrics import Metrics
from mnistjax.training.parallel import mesh_if_several, replicate
from mnistjax.training.state import TrainState, init_state
from mnistjax.training.step import TrainStep, make_train_step

console = Console(soft_wrap=True)


class Stage(NamedTuple):
    """Epochs that train alike: the last one, counted from the run's start, and what trains how."""

    until: int
    tx: optax.GradientTransformation
    frozen: Mask = False


class Trained(NamedTuple):
    """The parameters that validation chose, and how they came about."""

    params: Params
    eval_step: EvalStep
    epochs: list[dict[str, Any]]
    best: dict[str, Any]
    compile_seconds: float


def train_stages(
    experiment: str,
    config: RunConfig,
    directory: Path,
    *,
    apply_fn: ApplyFn,
    params: Params,
    stages: Sequence[Stage],
    train: Split,
    validation: Split,
    settings: dict[str, Any],
    preprocess: Callable[[jax.Array], jax.Array] = to_unit,
    through: Callable[[Batch], Batch] = lambda batch: batch,
    label_smoothing: float = 0.0,
    score: Callable[[float, float], float] = by_loss,
) -> Trained | int:
    """Train through `stages`, saving every epoch; an exit code where a signal stopped it.

    `through` turns each batch into what the step takes, outside of it: a frozen part's features.
    A resumed run continues in the stage and at the step where it stopped.
    """
    _make_directory(directory)
    hold(directory)
    if config.resume:
        check_same_run(directory, settings)
    elif (directory / "config.json").exists():  # another process was faster
        fix = "pass another --output, or add --resume"
        raise StorageError(f"--output {directory}", "has just been used", fix=fix)
    else:  # first of all files: from now on a killed run can be resumed
        write_json(directory / "config.json", settings | {"made_with": made_with()})
    steps = steps_per_epoch(len(train.labels), config.batch_size)
    epochs = stages[-1].until
    mesh = mesh_if_several()
    step_of = make_eval_step(apply_fn=apply_fn, preprocess=preprocess, mesh=mesh)

    def eval_step(params: Params, batch: Batch) -> tuple[Metrics, jax.Array]:
        return step_of(params, through(batch))

    def stage_that_made(step: int) -> int:
        made = (i for i, stage in enumerate(stages) if step <= stage.until * steps)
        return next(made, len(stages) - 1)

    def like(step: int) -> TrainState:
        return abstract(init_state(params, stages[stage_that_made(step)].tx))

    with Checkpoints(directory / "checkpoints", keep=config.keep) as checkpoints:
        saved = checkpoints.newest(like=like)
        if saved is None:
            refuse_lost_checkpoints(directory)
        step = saved.step if saved else 0
        current = stage_that_made(step)
        state = saved.state if saved else init_state(params, stages[current].tx)
        state = replicate(state, mesh)
        begun = so_far(saved.extra if saved else {})
        checkpoints.check_room(state)
        if config.resume:  # not before a whole checkpoint was found: damage leaves all as it is
            write_json(directory / "config.json", settings | {"made_with": made_with()})
        display = TrainingDisplay(console, total=epochs * steps, epochs=epochs, quiet=config.quiet)
        evaluated = not begun[0].count
        log = MetricsLog(directory, upto=step, evaluated=evaluated, tensorboard=config.tensorboard)
        compile_seconds, finished = 0.0, False
        with log, StopSignals() as stop, display, explained(config, checkpoints):
            for number, stage in enumerate(stages):
                done = step >= stage.until * steps and not begun[0].count  # and evaluated
                if finished or stop.requested or number < current or done:
                    continue
                if number != current:
                    state = replicate(_enter(stage, state, config), mesh)
                    current = number
                train_step = make_train_step(
                    apply_fn=apply_fn,
                    tx=stage.tx,
                    preprocess=preprocess,
                    frozen=stage.frozen,
                    label_smoothing=label_smoothing,
                    mesh=mesh,
                )
                compiled, seconds = _compile(train_step, state, train, config, through)
                compile_seconds += seconds
                events = fit(
                    state,
                    train_step=lambda state, batch, f=compiled: f(state, through(batch)),
                    eval_step=eval_step,
                    train=train,
                    validation=validation,
                    epochs=stage.until,
                    batch_size=config.batch_size,
                    seed=config.seed,
                    so_far=begun,
                    should_stop=lambda: stop.requested,
                )
                begun, speed = (Metrics.zero(), 0.0), _Speed(config.batch_size)
                for event in events:
                    step = event.step
                    if isinstance(event, StepEnd):
                        rate = speed.step()
                    elif isinstance(event, EpochEnd):
                        rate = len(train.labels) / event.train_seconds
                        speed, state = _Speed(config.batch_size), event.state
                    else:
                        checkpoints.save(step, event.state, extra=_unfinished(event))
                        break
                    log.add(event, images_per_second=rate)
                    if isinstance(event, EpochEnd):  # after its row: a kill between loses neither
                        value = score(event.validation.loss, event.validation.accuracy)
                        checkpoints.save(step, event.state, extra={}, score=value)
                    display.show(event, images_per_second=rate)
                    if isinstance(event, EpochEnd) and _patience_over(config, log.epochs, score):
                        finished = True
                        break
        if stop.number is not None:
            again = f"python -m experiments.{experiment} --resume --output {directory}"
            print(f"interrupted: step {step} is saved. Fix: {again} goes on", file=sys.stderr)
            return 128 + stop.number
        best = best_epoch(log.epochs, score)
        chosen = checkpoints.restore(best["step"], like=like(best["step"])).state.params
    return Trained(replicate(chosen, mesh), eval_step, log.epochs, best, compile_seconds)


def _enter(stage: Stage, state: TrainState, config: RunConfig) -> TrainState:
    """`state` for the next stage: optimiser states are kept, those of newly trained leaves new."""
    entered = retarget(state.opt_state, tx=stage.tx, params=state.params)
    if not config.quiet and entered.fresh:
        names = sorted({name.rpartition("/")[0] for name in entered.fresh})
        console.print(f"now training too, optimiser state new: {', '.join(names)}")
    return TrainState(state.step, state.params, entered.opt_state)


def _compile(
    train_step: jax.stages.Wrapped,
    state: TrainState,
    train: Split,
    config: RunConfig,
    through: Callable[[Batch], Batch],
) -> tuple[TrainStep, float]:
    images, labels = on_device(train)
    row = epoch_order(0, 0, count=len(train.labels), batch_size=config.batch_size)[0]
    return compile_for(train_step, state, through(take_batch(images, labels, row)))


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


def _patience_over(
    config: RunConfig, epochs: list[dict[str, Any]], score: Callable[[float, float], float]
) -> bool:
    if config.early_stopping is None:
        return False
    return epochs[-1]["epoch"] - best_epoch(epochs, score)["epoch"] >= config.early_stopping


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ".probe").touch()
        (directory / ".probe").unlink()
    except OSError as error:
        why = error.strerror or str(error)
        fix = "pass an --output that can be written"
        raise StorageError(f"--output {directory}", why, fix=fix) from error
