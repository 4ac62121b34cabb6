"""From a plan to trained parameters in a run directory that survives being stopped anywhere."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from mnistjax.data.batches import Batch
from mnistjax.errors import Stopped, as_peer_lost
from mnistjax.models.functional import ModelState, Params
from mnistjax.processes import is_leader, refuse_unless_same, share, share_arrays
from mnistjax.report.console import TrainingDisplay, console
from mnistjax.runs.best import best_epoch
from mnistjax.runs.checkpoint import Checkpoints
from mnistjax.runs.claim import claim_directory, refuse_lost_checkpoints
from mnistjax.runs.compiled_step import compile_step, with_rates
from mnistjax.runs.diverged import explained
from mnistjax.runs.following import OWN, Follower
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

    Of several processes (`mnistjax.distributed`) the first has the directory. All call this with
    the same arguments, else it is a `UsageError`; `PeerLost` is raised where one of them is gone.
    """
    settings, options = settings or {}, options or RunOptions()
    refuse_unless_same({n: setting.value for n, setting in settings.items() if n not in OWN})
    mesh = mesh_if_several()
    eval_step = _eval_step(plan, mesh)
    with as_peer_lost():
        if not is_leader():
            return _follow(plan, eval_step, options, mesh)
        return _lead(plan, directory, settings, options, eval_step, mesh)


def _lead(
    plan: Plan,
    directory: Path,
    settings: Settings,
    options: RunOptions,
    eval_step: EvalStep,
    mesh: Mesh | None,
) -> Trained:
    """Train, alone or as the first of several processes."""
    claim_directory(directory, settings, resume=options.resume)
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
        if pace.number is not None:
            what = f"step {checkpoints.steps[-1]} is saved"
            raise Stopped(pace.number, what, fix=f"{options.again} goes on")
        best = best_epoch(log.epochs, plan.chooses)
        like = outline(plan.begin(plan.stage_that_made(best["step"])))
        chosen = checkpoints.restore(best["step"], like=like).state
    share([log.epochs, best])
    return _trained(chosen, eval_step, log.epochs, best, seconds, mesh)


def _follow(plan: Plan, eval_step: EvalStep, options: RunOptions, mesh: Mesh | None) -> Trained:
    """Train with the first of several processes."""
    start = _shared_start(plan, plan.begin(), 0, {}, mesh)
    with StopSignals() as stop:
        pace = Pace(stop, options, step=start.step)
        seconds = _through_stages(plan, start, eval_step, Follower(plan), pace, mesh)
    if pace.number is not None:
        raise Stopped(pace.number, "process 0 has saved it", fix=f"{options.again} goes on")
    epochs, best = share()
    chosen = plan.begin(plan.stage_that_made(best["step"]))
    return _trained(chosen, eval_step, epochs, best, seconds, mesh)


def _trained(
    chosen: TrainState,
    eval_step: EvalStep,
    epochs: list[dict[str, Any]],
    best: dict[str, Any],
    seconds: float,
    mesh: Mesh | None,
) -> Trained:
    """What validation chose, in every process: the others give a state like it."""
    model = share_arrays((evaluated_params(chosen), chosen.model_state))
    params, model_state = replicate(model, mesh)
    return Trained(params, model_state, eval_step, epochs, best, seconds)


def _start(plan: Plan, checkpoints: Checkpoints, directory: Path, mesh: Mesh | None) -> Start:
    """The newest whole checkpoint, or the first state; raise `StorageError` if neither is right."""
    saved = checkpoints.newest(like=lambda step: plan.begin(plan.stage_that_made(step)))
    if saved is None:
        refuse_lost_checkpoints(directory)
    step, extra = (saved.step, saved.extra) if saved else (0, {})
    state = saved.state if saved else plan.begin()
    checkpoints.check_room(state)
    checkpoints.try_out()
    return _shared_start(plan, state, step, extra, mesh)


def _shared_start(
    plan: Plan, state: TrainState, step: int, extra: dict[str, Any], mesh: Mesh | None
) -> Start:
    """Where process 0 begins, in every process."""
    step, extra = share([step, extra])
    stage = plan.stage_that_made(step)
    state = share_arrays(state if is_leader() else plan.begin(stage))
    return Start(stage, replicate(state, mesh), read_so_far(extra), step)


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
    recorder: Recorder | Follower,
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
        if recorder.finished or pace.number is not None:
            break
    pace.ended()
    return compile_seconds


def _enter(stage: Stage, state: TrainState, recorder: Recorder | Follower) -> TrainState:
    """`state` for the next stage: optimiser states are kept, those of newly trained leaves new."""
    entered = retarget(state.opt_state, tx=stage.tx, params=state.params)
    if entered.fresh:
        names = sorted({name.rpartition("/")[0] for name in entered.fresh})
        recorder.tell(f"now training too, optimiser state new: {', '.join(names)}")
    return state._replace(opt_state=entered.opt_state)
