"""The training step: one pure function, compiled once, its state donated unless told otherwise."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from mnistjax.data.batches import Batch, to_unit
from mnistjax.models.functional import ApplyFn, ApplyWithState, ModelState, Params
from mnistjax.ops.sharded import vary, varying
from mnistjax.training.finite import nan_unless_finite
from mnistjax.training.freeze import Mask, merge, trainable_part
from mnistjax.training.gradients import (
    Objective,
    Sums,
    gradient_sums,
    gradient_sums_with_state,
)
from mnistjax.training.latest import latest, left_out
from mnistjax.training.losses import LossFn, cross_entropy
from mnistjax.training.metrics import Metric, Metrics, kinds_of
from mnistjax.training.optimiser import update
from mnistjax.training.parallel import (
    AXIS,
    as_data_mesh,
    donated,
    over_mesh,
    over_mesh_as_one,
    sum_over,
)
from mnistjax.training.state import TrainState, TrainStep


def make_train_step(  # noqa: PLR0913
    *,
    apply_fn: ApplyFn,
    tx: optax.GradientTransformation,
    preprocess: Callable[[Array], Array] = to_unit,
    micro_batch: int | None = None,
    frozen: Mask = False,
    loss_fn: LossFn = cross_entropy,
    metrics: Mapping[str, Metric] | None = None,
    seed: int = 0,
    mesh: Mesh | None = None,
    donate: bool = True,
) -> jax.stages.Wrapped:
    """Make the jitted `train_step(state, batch) -> (state, metrics)`.

    What is minimised is the mean of `loss_fn(logits, labels)`, softmax cross-entropy by default
    (`training.losses`), over the rows that count, so a padded batch gives the update of the smaller
    one; `metrics` are more figures (`training.metrics`). The metrics' loss is NaN where a gradient
    is not finite. `preprocess` turns raw uint8 pixels into what `apply_fn` wants, inside jit.

    `micro_batch`: the gradient is summed over portions of so many examples; by default portions
    that suit a CPU (`micro_batch_size`), and the whole batch elsewhere: the same to rounding, as
    long as `apply_fn` treats each example for itself. One with state (`with_state`), its key being
    `step_key(seed, step)`, is cut only if told to: each portion has its own statistics and key.

    `frozen`: a mask (`freeze_mask`) of what keeps its value; no gradient of it is ever computed.
    `tx` has to leave out the same leaves: `optax.selective_transform(tx, freeze_mask=frozen)`.
    One that wants the loss, its gradient or the objective itself (`reduce_on_plateau`, `momo`,
    `lbfgs`) gets those of the whole batch. `mesh`: its devices (`data_mesh`) share every batch; the
    update is that of one device to rounding, batch statistics included. Raises `UsageError` for a
    batch that does not divide (with state, every device then computes all).
    `donate`: the old state is gone after the call (`init_state` and `fit` copy before it).

    >>> from mnistjax.training.state import init_state
    >>> tx = optax.sgd(0.1)
    >>> linear = lambda params, images: images.reshape(len(images), -1) @ params["w"]
    >>> step = make_train_step(apply_fn=linear, tx=tx)
    >>> batch = Batch(jnp.full((2, 2, 2, 1), 255, jnp.uint8), jnp.array([0, 1]), jnp.ones(2, bool))
    >>> state, metrics = step(init_state({"w": jnp.zeros((4, 3))}, tx), batch)
    >>> int(state.step), round(metrics.loss, 4)
    (1, 1.0986)
    """
    mesh = mesh if mesh is None else as_data_mesh(mesh)
    make = partial(
        make_step,
        apply_fn=apply_fn,
        tx=tx,
        preprocess=preprocess,
        micro_batch=micro_batch,
        frozen=frozen,
        loss_fn=loss_fn,
        metrics=metrics,
        seed=seed,
        platform=None if mesh is None else mesh.devices.flat[0].platform,
    )
    if mesh is None or mesh.size == 1:
        return jax.jit(make(), donate_argnums=donated(donate))
    if isinstance(apply_fn, ApplyWithState):
        return over_mesh_as_one(make(), mesh=mesh, donate=donate)
    return over_mesh(make(axis=AXIS), mesh=mesh, donate=donate)


def make_step(  # noqa: PLR0913
    *,
    apply_fn: ApplyFn,
    tx: optax.GradientTransformation,
    preprocess: Callable[[Array], Array] = to_unit,
    micro_batch: int | None = None,
    frozen: Mask = False,
    loss_fn: LossFn = cross_entropy,
    metrics: Mapping[str, Metric] | None = None,
    seed: int = 0,
    axis: str | None = None,
    platform: str | None = None,
) -> TrainStep:
    """The pure step that `make_train_step` jits, for `jax.lax.scan`, `jax.pmap` and the like.

    `axis`: the name of a mapped axis over which the batch is divided; sums go over all of it, and
    a model with state has to take its statistics over it, too (`with_state(axis=...)`), else it is
    refused with `UsageError`. `platform`: what it will be compiled for, by default what JAX uses.
    """
    objective = Objective(apply_fn, preprocess, frozen, loss_fn, kinds_of(metrics))
    sums = partial(gradient_sums, platform=platform, micro_batch=micro_batch)
    if isinstance(apply_fn, ApplyWithState):
        sums = partial(gradient_sums_with_state, seed=seed, axis=axis, micro_batch=micro_batch)

    def means(trainable: Params, state: TrainState, batch: Batch) -> tuple[Sums, ModelState]:
        """Loss and gradients of the whole batch, an example; metrics stay sums."""
        if axis is not None:  # else a `shard_map` that checks sums gradients itself, a second time
            trainable = jax.tree.map(lambda p: vary(p, varying(batch.labels)), trainable)
        (loss, grads, metrics), model_state = sums(objective, trainable, state, batch)
        if axis is not None:
            loss, grads, metrics = sum_over((loss, grads, metrics), axis)
        scale = 1 / jnp.asarray(metrics.count, jnp.float32)
        loss, grads = jax.tree.map(lambda g: g * scale.astype(g.dtype), (loss, grads))
        return Sums(loss, grads, metrics), model_state

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        def at(params: Params) -> tuple[Sums, ModelState]:
            return means(trainable_part(params, frozen), state, batch)

        here, model_state = at(state.params)
        updates, opt_state = update(tx, here, state, lambda params: at(params)[0])
        trainable = optax.apply_updates(trainable_part(state.params, frozen), updates)
        params = merge(cast(Params, trainable), state.params, frozen)
        skipped = left_out(opt_state, updates)
        if skipped is not None:  # statistics of a batch that is left out are, too
            kept = partial(jnp.where, skipped)
            model_state = jax.tree.map(kept, state.model_state, model_state)
        metrics = nan_unless_finite(here.metrics, here.grads, skipped=skipped)
        new = TrainState(state.step + 1, params, opt_state, model_state)
        return new, replace(metrics, latest=latest(here.grads, opt_state))

    return train_step
