"""The step of a stage, compiled before the first one: for each size of batch, or as a loop."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from mnistjax.data.batches import Batch
from mnistjax.data.placing import shape_over_processes
from mnistjax.data.prefetch import stays_on_device
from mnistjax.models.functional import ApplyWithState
from mnistjax.runs.pace import Pace
from mnistjax.runs.plan import Plan, Stage, itself
from mnistjax.training.augmented import augmented
from mnistjax.training.calls import InLoops, make_loop, wants_loops
from mnistjax.training.compile import compile_for
from mnistjax.training.freeze import trainable_part
from mnistjax.training.loop import Event, StepEnd
from mnistjax.training.metrics import Metrics
from mnistjax.training.micro_batch import micro_batch_size
from mnistjax.training.randomness import image_keys
from mnistjax.training.state import TrainState, TrainStep
from mnistjax.training.step import make_train_step


def compile_step(
    plan: Plan, stage: Stage, state: TrainState, pace: Pace, mesh: Mesh | None
) -> tuple[TrainStep | InLoops, float]:
    """What `fit` calls in `stage`, through the frozen part, counted by `pace`; and the seconds."""
    train_step = make_train_step(
        apply_fn=plan.apply_fn,
        tx=stage.tx,
        preprocess=plan.preprocess,
        frozen=stage.frozen,
        loss_fn=plan.loss_fn,
        metrics=plan.metrics,
        micro_batch=rows_at_once(plan, stage, mesh),
        seed=plan.seed,
        mesh=mesh,
    )
    if plan.augment is not None and plan.through is itself:
        train_step = augmented(train_step, augment=plan.augment, seed=plan.seed)
    looped = wants_loops() and plan.through is itself and stays_on_device(plan.train)
    sizes = set() if looped else {plan.batch_size}
    ragged = plan.examples % plan.batch_size
    if ragged and jax.tree.leaves(state.model_state):  # `fit` ends its epochs with a smaller batch
        sizes.add(ragged)
    compiled, seconds, through = {}, 0.0, _through(plan)
    for size in sizes:
        batch = jax.eval_shape(plan.through, _batch_of(plan, size))
        batch = jax.tree.map(shape_over_processes, batch)
        compiled[size], taken = compile_for(train_step, state, batch)
        seconds += taken

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        pace.step += 1
        return compiled[len(batch.labels)](state, through(batch, state.step))

    if not looped:
        return step, seconds
    images, labels, _ = _batch_of(plan, len(plan.train.labels))
    order = jax.ShapeDtypeStruct((plan.steps, plan.batch_size), jnp.int32)
    places = np.int32(0), np.int32(0)
    several, taken = compile_for(make_loop(train_step), state, images, labels, order, *places)

    def loop(state: TrainState, *where: Any) -> tuple[TrainState, Metrics]:
        pace.step += int(where[-1])
        return several(state, *where)

    return InLoops(step, loop), seconds + taken


def rows_at_once(plan: Plan, stage: Stage, mesh: Mesh | None = None) -> int | None:
    """Rows that the step takes at once; `None` for as many as suit it.

    Devices share a portion of a model with state, and each cuts its own rows of another's.
    """
    if plan.accumulate == 1:
        return None
    devices = 1 if mesh is None else mesh.size
    rows = -(-plan.batch_size // (devices * plan.accumulate))
    if isinstance(plan.apply_fn, ApplyWithState):
        return devices * rows
    images = jax.eval_shape(plan.through, _batch_of(plan, plan.batch_size)).images
    trains = optax.tree.size(trainable_part(plan.params, stage.frozen))
    return min(rows, micro_batch_size(images.shape, parameters=trains) or rows)


def _through(plan: Plan) -> Callable[[Batch, Array], Batch]:
    """What the batch of a step becomes on its way to it: changed, where a frozen part sees it."""
    augment = plan.augment
    if augment is None or plan.through is itself:
        return lambda batch, step: plan.through(batch)

    @jax.jit
    def change(images: Array, step: Array) -> Array:
        return augment(image_keys(plan.seed, step, len(images)), images)

    return lambda batch, step: plan.through(batch._replace(images=change(batch.images, step)))


def with_rates(events: Iterator[Event], rates: dict[str, np.ndarray]) -> Iterator[Event]:
    """`events`, in whose metrics each of `rates` is told at the event's step."""
    for event in events:
        rate = {name: values[event.step - 1].item() for name, values in rates.items()}
        told = event.metrics if isinstance(event, StepEnd) else event.train
        told = replace(told, latest=told.latest | rate)
        if isinstance(event, StepEnd):
            yield event._replace(metrics=told)
        else:
            yield event._replace(train=told)


def _batch_of(plan: Plan, size: int) -> Batch:
    """The shapes of a batch, without an array."""
    images = jax.ShapeDtypeStruct((size, *plan.train.images.shape[1:]), plan.train.images.dtype)
    labels = jax.ShapeDtypeStruct((size,), jnp.int32)
    return Batch(images, labels, jax.ShapeDtypeStruct((size,), jnp.bool_))  # type: ignore[arg-type]
