"""Is this what the steps take? Looked at once, on the host, before anything is computed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mnistjax.data.batches import Batch
from mnistjax.data.dataset import Split
from mnistjax.data.lazy_images import parts
from mnistjax.errors import DataError, UsageError
from mnistjax.training.metrics import Metrics

Score = Callable[[Batch], tuple[Metrics, Array]]


def check_split(split: Split, what: str, *, score: Score, batch_size: int) -> None:
    """Raise `DataError` for a split that `score` would take without a word, wrongly.

    Unequal counts, nothing at all, values that are not finite, and class numbers that are not
    among the outputs of the model: XLA reads the last example or class for what is beyond the end.
    Labels of other kinds than class numbers are the business of the loss. What dtype the images
    have to be is the business of `preprocess` (`to_unit` takes uint8 only).

    >>> split = Split(np.zeros((2, 4), np.float32), np.array([1, 2]))
    >>> def score(batch):
    ...     return Metrics(0.0, 0, 1), jnp.zeros((len(batch.labels), 2))
    >>> check_split(split, "train", score=score, batch_size=2)
    Traceback (most recent call last):
    mnistjax.errors.DataError: `train`: labels run from 1 to 2, where the model has 2 outputs. Fix: number the classes from 0 to 1
    """  # noqa: E501
    images, labels = split
    if batch_size < 1:
        raise UsageError(f"`batch_size` {batch_size}", "must be at least 1", fix="pass 128")
    if len(images) != len(labels):
        why = f"{len(images)} images but {len(labels)} labels"
        raise DataError(f"`{what}`", why, fix="pass as many of each")
    if not len(labels):
        raise DataError(f"`{what}`", "holds no example", fix="pass at least one")
    for name, values in (("images", images), ("labels", labels)):
        if values.dtype.kind not in "biu" and not all(_finite(part) for part in parts(values)):
            fix = "replace what is missing, or leave those examples out"
            raise DataError(f"`{what}`", f"{name} hold values that are not finite", fix=fix)
    outputs = _classes(split, score, batch_size)
    low, high = (int(labels.min()), int(labels.max())) if outputs else (0, -1)
    if low < 0 or high >= outputs > 0:
        why = f"labels run from {low} to {high}, where the model has {outputs} outputs"
        fix = f"number the classes from 0 to {outputs - 1}"
        raise DataError(f"`{what}`", why, fix=fix)


def _finite(values: np.ndarray) -> bool:
    ends = (values.min(), values.max())  # either is NaN where any value is
    return bool(np.isfinite(ends).all())


def _classes(split: Split, score: Score, rows: int) -> int:
    """How many classes the model tells apart; 0 where labels are none, or it cannot be said."""
    images, labels = split
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        return 0
    batch = Batch(
        jax.ShapeDtypeStruct((rows, *images.shape[1:]), images.dtype),  # type: ignore[arg-type]
        jax.ShapeDtypeStruct((rows,), jnp.int32),  # type: ignore[arg-type]
        jax.ShapeDtypeStruct((rows,), jnp.bool_),  # type: ignore[arg-type]
    )

    def answers(batch: Batch) -> tuple[Any, Array]:
        metrics, logits = score(batch)
        return metrics.correct, logits

    try:
        correct, logits = jax.eval_shape(answers, batch)
    except jax.errors.JAXTypeError:  # a step of the caller's that looks at values
        return 0
    return 0 if correct is None else logits.shape[-1]
