"""From a plan to trained parameters in a run directory that survives being stopped anywhere."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from mnistjax.data.batches import Batch
from mnistjax.errors import Stopped
from mnistjax.models.functional import ModelState, Params
from mnistjax.report.console import TrainingDisplay, console
from mnistjax.runs.best import best_epoch
from mnistjax.runs.checkpoint import Checkpoints
from mnistjax.runs.claim import claim_directory, refuse_lost_checkpoints
from mnistjax.runs.compiled_step import compile_step, with_rates
from mnistjax.runs.diverged import explained
from mnistjax.runs.leaves import outline
from mnistjax.runs.log import MetricsLog
from mnistjax.runs.options import RunOptions
from mnistjax.runs.pace import Pace
from mnistjax.runs.plan import Plan, Stage
from mnistjax.runs.record import Recorder, SoFar, read_so_far
from mnistjax.runs.settings import Settings, write_config
from mnistjax.runs.signals import StopSignals
from mnistjax.training.ema import evaluated_params
from mnistjax.training.evaluate import EvalStep, make_eval_step
from mnistjax.training.groups import retarget
from mnistjax.training.loop import fit
from mnistjax.training.metrics import Metrics
from mnistjax.training.parallel import mesh_if_several, replicate
from mnistjax.training.state import TrainState


class Trained(NamedTuple):
    """The parameters that validation chose, and how they came about."""

    params: Params
    model_state: ModelState
    eval_step: EvalStep
    epochs: list[dict[str, Any]]
    """The rows of all epochs, as in metrics.jsonl."""
    best: dict[str, Any]
    """The row of the epoch that was chosen."""
    compile_seconds: float


class Start(NamedTuple):
    """Where a run begins, or goes on."""

    stage: int
    state: TrainState
    so_far: SoFar
    step: int


@jax.transfer_guard("allow")  # what is moved here is moved on purpose
def train_run(
    plan: Plan,
    directory: Path,
    *,
    settings: Settings | None = None,
    options: RunOptions | None = None,
) -> Trained:
    """Carry out `plan` in `directory`, saving every epoch, or go on with the run that is there.

    A resumed run continues in the stage and at the step where it stopped, to the same bits;
    `settings` go into its `config.json`, and have to be those it was made with (`Setting`). The
    first SIGINT or SIGTERM lets the work in hand end, saves it once and raises `Stopped`. Raises
    `StorageError` for a directory that cannot be used and `NumericalError` where numbers are lost.
    """
    settings, options = settings or {}, options or RunOptions()
    claim_directory(directory, settings, resume=options.resume)
    mesh = mesh_if_several()
    eval_step = _eval_step(plan, mesh)
    with Checkpoints(directory / "checkpoints", keep=options.keep) as checkpoints:
        start = _start(plan, checkpoints, directory, mesh)
        if options.resume:  # not before a whole checkpoint was found: damage leaves all as it is
            write_config(directory, settings)
        display = TrainingDisplay(
            console, total=plan.epochs * plan.steps, epochs=plan.epochs, quiet=options.quiet
        )
        log = MetricsLog(
            directory,
            upto=start.step,
            evaluated=not start.so_far.interrupted,
            tensorboard=options.tensorboard,
            every=options.log_every,
        )
        with log, StopSignals() as stop, display, explained(settings, checkpoints):
            recorder = Recorder(plan, checkpoints, log, display)
            pace = Pace(stop, options, step=start.step)
            seconds = _through_stages(plan, start, eval_step, recorder, pace, mesh)
        if stop.number is not None:
            what = f"step {checkpoints.steps[-1]} is saved"
            raise Stopped(stop.number, what, fix=f"{options.again} goes on")
        best = best_epoch(log.epochs, plan.chooses)
        like = outline(plan.begin(plan.stage_that_made(best["step"])))
        chosen = checkpoints.restore(best["step"], like=like).state
    chosen = replicate((evaluated_params(chosen), chosen.model_state), mesh)
    return Trained(*chosen, eval_step, log.epochs, best, seconds)


def _start(plan: Plan, checkpoints: Checkpoints, directory: Path, mesh: Mesh | None) -> Start:
    """The newest whole checkpoint, or the first state; raise `StorageError` if neither is right."""
    saved = checkpoints.newest(like=lambda step: plan.begin(plan.stage_that_made(step)))
    if saved is None:
        refuse_lost_checkpoints(directory)
    step = saved.step if saved else 0
    state = replicate(saved.state if saved else plan.begin(), mesh)
    checkpoints.check_room(state)
    checkpoints.try_out()
    return Start(plan.stage_that_made(step), state, read_so_far(saved.extra if saved else {}), step)


def _eval_step(plan: Plan, mesh: Mesh | None) -> EvalStep:
    step = make_eval_step(
        apply_fn=plan.apply_fn,
        preprocess=plan.preprocess,
        loss_fn=plan.loss_fn,
        metrics=plan.metrics,
        mesh=mesh,
    )

    def eval_step(
        params: Params, batch: Batch, *model_state: ModelState
    ) -> tuple[Metrics, jax.Array]:
        return step(params, plan.through(batch), *model_state)

    return eval_step


def _through_stages(
    plan: Plan,
    start: Start,
    eval_step: EvalStep,
    recorder: Recorder,
    pace: Pace,
    mesh: Mesh | None,
) -> float:
    """Train from `start` to the end of the last stage, or to a stop; the seconds of compiling."""
    state, so_far, compile_seconds = start.state, start.so_far, 0.0
    if start.step and not so_far.interrupted and recorder.patience_is_over(start.step):
        return 0.0
    for number, stage in list(enumerate(plan.stages))[start.stage :]:
        if int(state.step) >= stage.until * plan.steps and not so_far.interrupted:
            continue  # done, and evaluated
        if number != start.stage:
            state = replicate(_enter(stage, state, recorder), mesh)
        step, seconds = compile_step(plan, stage, state, pace, mesh)
        compile_seconds += seconds
        events = fit(
            state,
            train_step=step,
            eval_step=eval_step,
            train=plan.train,
            validation=plan.validation,
            epochs=stage.until,
            batch_size=plan.batch_size,
            seed=plan.seed,
            so_far=so_far,
            should_stop=pace,
            donate=True,  # every state that counts is saved before the next step
        )
        rates = stage.rates_until(stage.until * plan.steps)
        state, so_far = recorder.follow(with_rates(events, rates), state), SoFar()
        if recorder.finished or pace.signals.requested:
            break
    return compile_seconds


def _enter(stage: Stage, state: TrainState, recorder: Recorder) -> TrainState:
    """`state` for the next stage: optimiser states are kept, those of newly trained leaves new."""
    entered = retarget(state.opt_state, tx=stage.tx, params=state.params)
    if entered.fresh:
        names = sorted({name.rpartition("/")[0] for name in entered.fresh})
        recorder.tell(f"now training too, optimiser state new: {', '.join(names)}")
    return state._replace(opt_state=entered.opt_state)
