"""Exact evaluation: every example is scored once, the ragged last batch included."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float32

from mnistjax.data.batches import Batch, file_order, to_unit
from mnistjax.data.dataset import Split, as_split
from mnistjax.data.placing import EVERYWHERE
from mnistjax.data.prefetch import batches_from
from mnistjax.data.source import Source
from mnistjax.models.functional import ApplyFn, ModelState, Params, call
from mnistjax.training.check import check_split
from mnistjax.training.finite import fetch
from mnistjax.training.losses import LossFn, cross_entropy
from mnistjax.training.metrics import Metric, Metrics, kinds_of, metrics_of, widen
from mnistjax.training.parallel import as_data_mesh, by_rows

EvalStep = Callable[..., tuple[Metrics, Array]]
"""`eval_step(params, batch)`, and of a model with state `eval_step(params, batch, model_state)`."""


def make_eval_step(
    *,
    apply_fn: ApplyFn,
    preprocess: Callable[[Array], Array] = to_unit,
    loss_fn: LossFn = cross_entropy,
    metrics: Mapping[str, Metric] | None = None,
    mesh: Mesh | None = None,
) -> EvalStep:
    """Make the jitted `eval_step(params, batch) -> (metrics, logits)`; parameters are kept.

    `loss_fn` and `metrics` as in `make_train_step`: told is what the loss is reported by.

    A model with state (`with_state`) has `eval_step(params, batch, model_state)`, and no key.
    `mesh`: its devices (`data_mesh`) share the rows, however many; parameters lie on all of them.
    """

    def forward(model: tuple[Params, ModelState], images: Array) -> Array:
        logits, _ = call(apply_fn, *model, preprocess(images), None)
        return widen(logits)

    mesh = mesh if mesh is None else as_data_mesh(mesh)
    shared, kinds = by_rows(forward, mesh=mesh), kinds_of(metrics)
    # No process has the logits of another's rows, unless they are sent to all.
    everywhere = NamedSharding(mesh, EVERYWHERE) if mesh and jax.process_count() > 1 else None

    @partial(jax.jit, out_shardings=everywhere)
    def eval_step(
        params: Params, batch: Batch, model_state: ModelState = ()
    ) -> tuple[Metrics, Array]:
        logits = shared((params, model_state), batch.images)
        return metrics_of(logits, batch.labels, batch.mask, loss_fn, kinds), logits

    return eval_step


# Examples at a time. Of 64 photos of 224x224 the CNN's first map alone would be 0.4 GB. Other
# numbers of rows may be rounded otherwise (with AVX2 the small CNN's logits of 28x28 are the same
# bits with 96 to 512 rows, those of 32x32 in colour are not), so evaluation and prediction take
# the same two, filled up; large images are always as many.
ROWS, ALIKE, VALUES, FEWEST = 512, 128, 2**21, 16


def usual_rows(shape: tuple[int, ...]) -> int:
    """How many images of [height, width, channels] are evaluated at a time, at most.

    >>> usual_rows((32, 32, 3)), usual_rows((224, 224, 3))
    (512, 16)
    """
    return max(FEWEST, min(ROWS, VALUES // max(1, math.prod(shape))))


def rows_at_a_time(count: int, shape: tuple[int, ...]) -> int:
    """How many of `count` images are evaluated at a time, rows of padding counted.

    One of two numbers, so that validation and test images of a small set share a program, which
    takes half a second to make, and predictions are rounded as the run's evaluation is.

    >>> [rows_at_a_time(count, (32, 32, 3)) for count in (20, 216, 360, 10_000)]
    [128, 512, 512, 512]
    >>> [rows_at_a_time(count, (224, 224, 3)) for count in (1, 360)]
    [16, 16]
    """
    most = usual_rows(shape)
    least = min(ALIKE, most)
    return least if count <= least else most


def _rows(split: Split, batch_size: int | None) -> int:
    count = len(split.labels)
    if batch_size is None:
        return rows_at_a_time(count, split.images.shape[1:])
    return min(batch_size, max(count, 1))


def scored(
    eval_step: EvalStep, params: Params, model_state: ModelState, batch: Batch
) -> tuple[Metrics, Array]:
    """What `eval_step` says of `batch`, of a model with state or without."""
    return eval_step(params, batch, *((model_state,) if model_state else ()))


def score_batches(
    eval_step: EvalStep,
    params: Params,
    split: Split,
    *,
    model_state: ModelState = (),
    batch_size: int | None = None,
) -> Iterator[tuple[Metrics, Float32[np.ndarray, "batch classes"]]]:
    """Metrics and logits of each batch of `split` in turn, on the host; the device is one ahead.

    `batch_size`: `rows_at_a_time` if not given. Padding rows of the last batch are cut off. Raises
    `NumericalError` for a loss, and so for logits, that are not finite.
    """
    order = file_order(count=len(split.labels), batch_size=_rows(split, batch_size))
    late = None
    with closing(batches_from(split)(order)) as batches:
        for batch in batches:
            early = scored(eval_step, params, model_state, batch)
            if late is not None:
                yield _on_host(*late)
            late = early
    if late is not None:
        yield _on_host(*late)


def _on_host(metrics: Metrics, logits: Array) -> tuple[Metrics, np.ndarray]:
    fetched = fetch(metrics, "evaluation")
    return fetched, np.asarray(logits)[: fetched.count]


def evaluate(
    eval_step: EvalStep,
    params: Params,
    split: Split | Source,
    *,
    model_state: ModelState = (),
    batch_size: int | None = None,
) -> tuple[Metrics, Float32[np.ndarray, "n classes"]]:
    """Score all of `split`: the metrics on the host and the logits in the split's order.

    `split` may be a source of examples (`as_split`), and larger than memory (`batches_from`).
    Raises `DataError` for a split that does not fit the model (`check_split`), and `NumericalError`
    for logits that are not finite.

    >>> import jax.numpy as jnp
    >>> split = Split(np.zeros((5, 2, 2, 1), np.uint8), np.zeros(5, np.int32))
    >>> step = make_eval_step(apply_fn=lambda params, images: jnp.zeros((len(images), 3)))
    >>> metrics, logits = evaluate(step, {}, split, batch_size=2)
    >>> metrics.count, metrics.accuracy, logits.shape
    (5, 1.0, (5, 3))
    """
    score = partial(scored, eval_step, params, model_state)
    split = as_split(split)
    checked = _rows(split, batch_size)  # as many as are computed: traced once for both
    total, rows = Metrics.zero(), []
    with jax.transfer_guard("allow"):  # what is moved here is moved on purpose
        check_split(split, "split", score=score, batch_size=checked)
        for metrics, logits in score_batches(
            eval_step, params, split, model_state=model_state, batch_size=batch_size
        ):
            total += metrics
            rows.append(logits)
    return total, np.concatenate(rows)
