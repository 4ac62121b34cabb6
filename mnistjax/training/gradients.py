"""The loss and its gradient, summed over a batch: portion by portion, with state or without."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from mnistjax.data.batches import Batch
from mnistjax.errors import UsageError
from mnistjax.models.functional import ApplyFn, ApplyWithState, ModelState, Params, call
from mnistjax.training.freeze import Mask, merge
from mnistjax.training.independent import check_independent
from mnistjax.training.losses import LossFn, reported
from mnistjax.training.metrics import Kinds, Metrics, metrics_of, widen
from mnistjax.training.micro_batch import micro_batch_size, sum_over_micro_batches, sum_with_state
from mnistjax.training.randomness import step_key
from mnistjax.training.state import TrainState


class Objective(NamedTuple):
    """What is minimised: the arguments of `make_train_step` that the loss follows from."""

    apply_fn: ApplyFn
    preprocess: Callable[[Array], Array]
    frozen: Mask
    loss_fn: LossFn
    kinds: Kinds


class Sums(NamedTuple):
    """Over the examples: of the loss that is minimised, its gradients, and the metrics."""

    loss: Array
    grads: Params
    metrics: Metrics


def loss_sum(
    objective: Objective, trainable: Params, state: TrainState, batch: Batch, key: Array | None
) -> tuple[Array, tuple[Metrics, ModelState]]:
    """The sum of the losses, metrics and the new model state."""
    params = merge(trainable, state.params, objective.frozen)
    images = objective.preprocess(batch.images)
    logits, model_state = call(objective.apply_fn, params, state.model_state, images, key)
    logits, loss_fn = widen(logits), objective.loss_fn
    metrics = metrics_of(logits, batch.labels, batch.mask, loss_fn, objective.kinds)
    loss = jnp.asarray(metrics.loss_sum)
    if reported(loss_fn) is not loss_fn:
        loss = jnp.sum(jnp.where(batch.mask, loss_fn(logits, batch.labels), 0))
    return loss, (metrics, model_state)


def sums_of(
    objective: Objective, trainable: Params, state: TrainState, batch: Batch, key: Array | None
) -> tuple[Sums, ModelState]:
    """All of a portion at once."""
    value_and_grad = jax.value_and_grad(partial(loss_sum, objective), has_aux=True)
    (loss, (metrics, model_state)), grads = value_and_grad(trainable, state, batch, key)
    return Sums(loss, grads, metrics), model_state


def gradient_sums(
    objective: Objective,
    trainable: Params,
    state: TrainState,
    batch: Batch,
    *,
    micro_batch: int | None,
    platform: str | None,
) -> tuple[Sums, ModelState]:
    """Of a model whose examples do not depend on each other, in portions that suit the platform.

    Raises `UsageError` if they do (`check_independent`).
    """

    def forward(params: Params, images: Array) -> Any:
        return call(objective.apply_fn, params, (), objective.preprocess(images), None)[0]

    def portion(batch: Batch) -> Sums:
        return sums_of(objective, trainable, state, batch, None)[0]

    check_independent(forward, state.params, batch.images)

    parameters = optax.tree.size(trainable)
    size = micro_batch or micro_batch_size(batch.images.shape, platform, parameters=parameters)
    return sum_over_micro_batches(portion, batch, size), state.model_state


def gradient_sums_with_state(
    objective: Objective,
    trainable: Params,
    state: TrainState,
    batch: Batch,
    *,
    micro_batch: int | None,
    seed: int,
    axis: str | None,
) -> tuple[Sums, ModelState]:
    """Of a model with state (`with_state`): of the whole batch at once, unless told otherwise.

    Raises `UsageError` for statistics that would be those of each device's share of the batch.
    """
    _check_statistics(objective.apply_fn, state.model_state, axis)
    key = step_key(seed, state.step)
    if axis is not None:
        key = jax.random.fold_in(key, jax.lax.axis_index(axis))

    def portion(model_state: ModelState, batch: Batch, key: Array) -> tuple[Sums, ModelState]:
        of = state._replace(model_state=model_state)
        return sums_of(objective, trainable, of, batch, key)

    return sum_with_state(portion, state.model_state, batch, key, micro_batch)


def _check_statistics(apply_fn: ApplyFn, model_state: ModelState, axis: str | None) -> None:
    own = apply_fn.axis if isinstance(apply_fn, ApplyWithState) else None
    if axis is not None and own != axis and jax.tree.leaves(model_state):
        why = "its statistics would be those of each device's share of the batch"
        fix = f"pass axis={axis!r} to functional_with_state or with_state"
        raise UsageError(f"apply_fn over the axis {axis!r}", why, fix=fix)
