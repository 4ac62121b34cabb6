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
from mnistjax.models.functional import ApplyFn, Params
from mnistjax.training.finite import nan_unless_finite
from mnistjax.training.freeze import Mask, merge, trainable_part
from mnistjax.training.metrics import Metrics, measure, widen
from mnistjax.training.micro_batch import micro_batch_size, sum_over_micro_batches
from mnistjax.training.parallel import AXIS, over_mesh
from mnistjax.training.state import TrainState, TrainStep


def make_train_step(
    *,
    apply_fn: ApplyFn,
    tx: optax.GradientTransformation,
    preprocess: Callable[[Array], Array] = to_unit,
    micro_batch: int | None = None,
    frozen: Mask = False,
    label_smoothing: float = 0.0,
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

    The metrics' loss is NaN as well where a gradient is not finite.

    `mesh`: its devices (`parallel.data_mesh`) share every batch; the update is that of one device
    to rounding. A batch that does not divide by their number is refused with `UsageError`.

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
        platform=None if mesh is None else mesh.devices.flat[0].platform,
    )
    if mesh is None or mesh.size == 1:
        return jax.jit(make(), donate_argnums=0)
    return over_mesh(make(axis=AXIS), mesh=mesh)


def make_step(
    *,
    apply_fn: ApplyFn,
    tx: optax.GradientTransformation,
    preprocess: Callable[[Array], Array] = to_unit,
    micro_batch: int | None = None,
    frozen: Mask = False,
    label_smoothing: float = 0.0,
    axis: str | None = None,
    platform: str | None = None,
) -> TrainStep:
    """The pure step that `make_train_step` jits, for `jax.lax.scan`, `jax.pmap` and the like.

    `axis`: the name of a mapped axis over which the batch is divided; sums go over all of it.
    `platform`: what it will be compiled for, by default what JAX uses.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        def loss_fn(trainable: Params, batch: Batch) -> tuple[Array, Metrics]:
            params = merge(trainable, state.params, frozen)
            logits = widen(apply_fn(params, preprocess(batch.images)))
            metrics = measure(logits, batch.labels, batch.mask)
            loss = jnp.asarray(metrics.loss_sum)
            if label_smoothing:
                even = -jax.nn.log_softmax(logits).mean(axis=-1)
                even = jnp.sum(jnp.where(batch.mask, even, 0))
                loss = (1 - label_smoothing) * loss + label_smoothing * even
            return loss, metrics

        trainable = trainable_part(state.params, frozen)
        parameters = optax.tree.size(trainable)
        size = micro_batch or micro_batch_size(batch.images.shape, platform, parameters=parameters)
        grad_fn = partial(jax.grad(loss_fn, has_aux=True), trainable)
        grads, metrics = sum_over_micro_batches(grad_fn, batch, size)
        if axis is not None:
            grads, metrics = jax.lax.psum((grads, metrics), axis)
        scale = 1 / jnp.asarray(metrics.count, jnp.float32)
        grads = jax.tree.map(lambda g: g * scale.astype(g.dtype), grads)
        with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises a float to an int32
            updates, opt_state = tx.update(grads, state.opt_state, state.params)
        trainable = cast(Params, optax.apply_updates(trainable, updates))
        params = merge(trainable, state.params, frozen)
        return TrainState(state.step + 1, params, opt_state), nan_unless_finite(metrics, grads)

    return train_step
