"""The training step: one pure function, compiled once, its state donated."""

from collections.abc import Callable
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from mnistjax.data.batches import Batch, to_unit
from mnistjax.errors import UsageError
from mnistjax.models.functional import ApplyFn, ApplyWithState, ModelState, Params
from mnistjax.training.finite import nan_unless_finite
from mnistjax.training.freeze import Mask, merge, trainable_part
from mnistjax.training.metrics import Metrics, metrics_of, widen
from mnistjax.training.micro_batch import micro_batch_size, sum_over_micro_batches, sum_with_state
from mnistjax.training.parallel import AXIS, over_mesh, over_mesh_as_one
from mnistjax.training.randomness import step_key
from mnistjax.training.state import TrainState, TrainStep


def make_train_step(
    *,
    apply_fn: ApplyFn,
    tx: optax.GradientTransformation,
    preprocess: Callable[[Array], Array] = to_unit,
    micro_batch: int | None = None,
    frozen: Mask = False,
    label_smoothing: float = 0.0,
    seed: int = 0,
    mesh: Mesh | None = None,
) -> jax.stages.Wrapped:
    """Make the jitted `train_step(state, batch) -> (state, metrics)`.

    The loss is the mean softmax cross-entropy over the rows that count, so a padded batch gives
    the update of the smaller one. `preprocess` turns raw uint8 pixels into what `apply_fn` wants,
    inside jit. The state passed in is donated: use the one returned.

    `micro_batch`: the gradient is summed over portions of so many examples; by default portions
    that suit a CPU (`micro_batch_size`), and the whole batch elsewhere. The same update to
    rounding, as long as `apply_fn` treats each example for itself.

    `frozen`: a mask (`freeze_mask`) of what keeps its value; no gradient of it is ever computed,
    so neither a clip nor a norm can read one. `tx` has to leave out the same leaves:
    `optax.selective_transform(tx, freeze_mask=frozen)`.

    `label_smoothing`: the share of every label that is spread evenly over all classes (Szegedy et
    al. 2016, arXiv:1512.00567). It is in the loss that trains; metrics are without it.

    `apply_fn` may have state and be random (`with_state`): its key is `step_key(seed, step)`. Since
    its examples may depend on each other, by batch statistics, it is not cut into micro-batches
    unless `micro_batch` says so; each portion then has statistics and a key of its own.

    The metrics' loss is NaN as well where a gradient is not finite.

    `mesh`: its devices (`parallel.data_mesh`) share every batch; the update is that of one device
    to rounding, batch statistics included. A batch that does not divide by their number is refused
    with `UsageError`; of a model with state every device then computes all of it.

    >>> from mnistjax.training.state import init_state
    >>> tx = optax.sgd(0.1)
    >>> linear = lambda params, images: images.reshape(len(images), -1) @ params["w"]
    >>> step = make_train_step(apply_fn=linear, tx=tx)
    >>> batch = Batch(jnp.full((2, 2, 2, 1), 255, jnp.uint8), jnp.array([0, 1]), jnp.ones(2, bool))
    >>> state, metrics = step(init_state({"w": jnp.zeros((4, 3))}, tx), batch)
    >>> int(state.step), round(metrics.loss, 4)
    (1, 1.0986)
    """
    make = partial(
        make_step,
        apply_fn=apply_fn,
        tx=tx,
        preprocess=preprocess,
        micro_batch=micro_batch,
        frozen=frozen,
        label_smoothing=label_smoothing,
        seed=seed,
        platform=None if mesh is None else mesh.devices.flat[0].platform,
    )
    if mesh is None or mesh.size == 1:
        return jax.jit(make(), donate_argnums=0)
    if isinstance(apply_fn, ApplyWithState):
        return over_mesh_as_one(make(), mesh=mesh)
    return over_mesh(make(axis=AXIS), mesh=mesh)


def make_step(
    *,
    apply_fn: ApplyFn,
    tx: optax.GradientTransformation,
    preprocess: Callable[[Array], Array] = to_unit,
    micro_batch: int | None = None,
    frozen: Mask = False,
    label_smoothing: float = 0.0,
    seed: int = 0,
    axis: str | None = None,
    platform: str | None = None,
) -> TrainStep:
    """The pure step that `make_train_step` jits, for `jax.lax.scan`, `jax.pmap` and the like.

    `axis`: the name of a mapped axis over which the batch is divided; sums go over all of it, and
    a model with state has to take its statistics over it, too (`with_state(axis=...)`), else it is
    refused with `UsageError`. `platform`: what it will be compiled for, by default what JAX uses.
    """

    def loss_fn(
        trainable: Params, state: TrainState, batch: Batch, key: Array | None
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        params = merge(trainable, state.params, frozen)
        images, model_state = preprocess(batch.images), state.model_state
        if isinstance(apply_fn, ApplyWithState):
            logits, model_state = apply_fn(params, model_state, images, key)
        else:
            logits = apply_fn(params, images)
        logits = widen(logits)
        metrics = metrics_of(logits, batch.labels, batch.mask)
        loss = jnp.asarray(metrics.loss_sum)
        if label_smoothing:
            even = -jax.nn.log_softmax(logits).mean(axis=-1)
            even = jnp.sum(jnp.where(batch.mask, even, 0))
            loss = (1 - label_smoothing) * loss + label_smoothing * even
        return loss, (metrics, model_state)

    grad_fn = jax.grad(loss_fn, has_aux=True)

    def sums(state: TrainState, batch: Batch) -> tuple[Params, Metrics, ModelState]:
        """Gradients and metrics summed over the batch, in portions, and the new model state."""
        trainable = trainable_part(state.params, frozen)
        if isinstance(apply_fn, ApplyWithState):
            _check_statistics(apply_fn, state.model_state, axis)
            key = step_key(seed, state.step)
            if axis is not None:
                key = jax.random.fold_in(key, jax.lax.axis_index(axis))

            def portion_with_state(model_state: ModelState, portion: Batch, key: Array):
                of = state._replace(model_state=model_state)
                grads, (metrics, model_state) = grad_fn(trainable, of, portion, key)
                return (grads, metrics), model_state

            (grads, metrics), model_state = sum_with_state(
                portion_with_state, state.model_state, batch, key, micro_batch
            )
            return grads, metrics, model_state

        def portion(batch: Batch) -> tuple[Params, Metrics]:
            grads, (metrics, _) = grad_fn(trainable, state, batch, None)
            return grads, metrics

        parameters = optax.tree.size(trainable)
        size = micro_batch or micro_batch_size(batch.images.shape, platform, parameters=parameters)
        return *sum_over_micro_batches(portion, batch, size), state.model_state

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, metrics, model_state = sums(state, batch)
        if axis is not None:
            grads, metrics = jax.lax.psum((grads, metrics), axis)
        scale = 1 / jnp.asarray(metrics.count, jnp.float32)
        grads = jax.tree.map(lambda g: g * scale.astype(g.dtype), grads)
        with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises a float to an int32
            updates, opt_state = tx.update(grads, state.opt_state, state.params)
        trainable = optax.apply_updates(trainable_part(state.params, frozen), updates)
        params = merge(cast(Params, trainable), state.params, frozen)
        new = TrainState(state.step + 1, params, opt_state, model_state)
        return new, nan_unless_finite(metrics, grads)

    return train_step


def _check_statistics(apply_fn: ApplyWithState, model_state: ModelState, axis: str | None) -> None:
    if axis is not None and apply_fn.axis != axis and jax.tree.leaves(model_state):
        why = "its statistics would be those of each device's share of the batch"
        fix = f"pass axis={axis!r} to functional_with_state or with_state"
        raise UsageError(f"apply_fn over the axis {axis!r}", why, fix=fix)
