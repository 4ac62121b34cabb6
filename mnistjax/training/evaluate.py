"""Exact evaluation: every example is scored once, the ragged last batch included."""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float32

from mnistjax.data.batches import Batch, file_order, on_device, take_batch, to_unit
from mnistjax.data.dataset import Split
from mnistjax.models.functional import ApplyFn, Params
from mnistjax.training.metrics import Metrics, measure
from mnistjax.training.parallel import by_rows

EvalStep = Callable[[Params, Batch], tuple[Metrics, Array]]


def make_eval_step(
    *,
    apply_fn: ApplyFn,
    preprocess: Callable[[Array], Array] = to_unit,
    mesh: Mesh | None = None,
) -> EvalStep:
    """Make the jitted `eval_step(params, batch) -> (metrics, logits)`; parameters are kept.

    `mesh`: its devices (`data_mesh`) share the rows, however many; parameters lie on all of them.
    """

    def forward(params: Params, images: Array) -> Array:
        return apply_fn(params, preprocess(images))

    shared = by_rows(forward, mesh=mesh)

    @jax.jit
    def eval_step(params: Params, batch: Batch) -> tuple[Metrics, Array]:
        logits = shared(params, batch.images)
        return measure(logits, batch.labels, batch.mask), logits

    return eval_step


def evaluate(
    eval_step: EvalStep, params: Params, split: Split, *, batch_size: int = 512
) -> tuple[Metrics, Float32[np.ndarray, "n classes"]]:
    """Score all of `split`: the metrics on the host and the logits in the split's order.

    >>> import jax.numpy as jnp
    >>> split = Split(np.zeros((5, 2, 2, 1), np.uint8), np.zeros(5, np.int32))
    >>> step = make_eval_step(apply_fn=lambda params, images: jnp.zeros((len(images), 3)))
    >>> metrics, logits = evaluate(step, {}, split, batch_size=2)
    >>> metrics.count, metrics.accuracy, logits.shape
    (5, 1.0, (5, 3))
    """
    images, labels = on_device(split)
    count = len(split.labels)
    rows = file_order(count=count, batch_size=min(batch_size, count))
    scored = [eval_step(params, take_batch(images, labels, row)) for row in rows]
    total = Metrics.zero()
    for metrics, _ in scored:
        total += metrics.on_host()
    logits = np.concatenate([np.asarray(logits) for _, logits in scored])
    return total, logits[:count]
