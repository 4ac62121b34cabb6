"""`train`: from a model and a data set to a finished run directory, in one call."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from mnistjax.data.dataset import Dataset
from mnistjax.data.split import hold_out
from mnistjax.files import params_sha256
from mnistjax.models.functional import (
    ApplyFn,
    ModelState,
    Params,
    functional,
    functional_with_state,
    holds_state,
)
from mnistjax.models.summary import LayerRow, summarise, summarise_params
from mnistjax.report.console import console
from mnistjax.runs.options import RunOptions
from mnistjax.runs.plan import Plan, Stage
from mnistjax.runs.result import About, say_result, write_result
from mnistjax.runs.run import Run
from mnistjax.runs.settings import Setting, Settings
from mnistjax.runs.train_run import train_run
from mnistjax.training.batch_size import check_batch_size
from mnistjax.training.freeze import freeze_mask, paths

Model = nnx.Module | tuple[ApplyFn, Params] | tuple[ApplyFn, Params, ModelState]


def train(
    model: Model,
    data: Dataset,
    directory: Path | str,
    *,
    tx: optax.GradientTransformation | None = None,
    trainable: Sequence[str] = ("*",),
    epochs: int = 5,
    batch_size: int = 128,
    seed: int = 0,
    validation: float = 0.1,
    options: RunOptions | None = None,
) -> Run:
    """Train `model` on `data` into `directory`: checkpoints, metrics, summary and a report.

    `model` is an NNX module, or `(apply_fn, params)` of any other library, or with its state
    `(apply_fn, params, model_state)` (`with_state`); it sees float32 images in 0..1. `tx` is by
    default Adam at 1e-3. `trainable` are patterns over parameter paths (`freeze_mask`); the rest
    keeps its values, and of it no gradient is computed. A share of `validation` of the training
    examples is held out; of its epochs the one with the lowest loss on them is scored on the test
    set, once.

    After a kill, Ctrl-C (which raises `Stopped`) or with more `epochs`, call it again with
    `RunOptions(resume=True)` and the same arguments: it goes on to the bits of a run never
    stopped. What can be compared is; `tx` is yours to keep the same. Raises `StorageError` for a
    directory that is used, and the errors of `train_run`.

    >>> import tempfile, mnistjax as mj
    >>> def linear(params, images):
    ...     return images.reshape(len(images), -1) @ params["w"]
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     run = mj.train(
    ...         (linear, {"w": np.zeros((784, 10), np.float32)}),
    ...         mj.load_dataset("digits"), directory, epochs=2, options=mj.RunOptions(quiet=True))
    ...     run.summary["test_accuracy"] > 0.7, run.best_params["w"].shape
    (True, (784, 10))
    """
    options, directory = options or RunOptions(), Path(directory)
    apply_fn, params, model_state = _functional(model)
    train_split, held_out = hold_out(data.train, fraction=validation, seed=seed)
    check_batch_size(batch_size, len(train_split.labels))
    frozen = freeze_mask(params, trainable=trainable)
    tx = optax.selective_transform(tx or optax.adam(1e-3), freeze_mask=frozen)
    plan = Plan(
        apply_fn=apply_fn,
        params=params,
        model_state=model_state,
        stages=[Stage(epochs, tx, frozen)],
        train=train_split,
        validation=held_out,
        batch_size=batch_size,
        seed=seed,
    )
    trained = train_run(
        plan,
        directory,
        settings={
            "epochs": Setting(epochs, may_change=True),
            "batch_size": Setting(batch_size),
            "seed": Setting(seed),
            "validation": Setting(validation),
            "trainable": Setting(list(trainable)),
            **_digests(data, params, model_state),
        },
        options=options,
    )
    about = About(
        data=data,
        layers=_layers(model, data, params, frozen),
        train_examples=len(train_split.labels),
        validation_examples=len(held_out.labels),
        facts={"experiment": directory.name, "batch_size": batch_size, "seed": seed},
        filters=_first_filters(trained.params),
    )
    result = write_result(directory, trained, about)
    if not options.quiet:
        console.print(say_result(result), highlight=False)
    return Run(directory)


def _functional(model: Model) -> tuple[ApplyFn, Params, ModelState]:
    if isinstance(model, nnx.Module):
        return functional_with_state(model) if holds_state(model) else (*functional(model), ())
    apply_fn, params, *model_state = model
    params, model_state = jax.tree.map(jax.numpy.array, (params, model_state))  # steps donate them
    return apply_fn, params, model_state[0] if model_state else ()


def _digests(data: Dataset, params: Params, model_state: ModelState) -> Settings:
    model = params_sha256((params, model_state))
    return {
        "dataset_sha256": Setting(data.sha256, given_by=("data",)),
        "model_sha256": Setting(model, given_by=("model",)),
    }


def _layers(model: Model, data: Dataset, params: Params, frozen: Any) -> list[LayerRow]:
    """A row a layer; one trains if any of its parameters does."""
    named = isinstance(model, nnx.Module)
    rows = summarise(model, data.image_shape) if named else summarise_params(params)
    trained = {
        path
        for path, out in zip(paths(params), jax.tree.leaves(frozen), strict=True)
        if not out
    }
    return [
        row._replace(trains=any(f"{path}/".startswith(f"{row.name}/") for path in trained))
        for row in rows
    ]


def _first_filters(params: Params) -> np.ndarray | None:
    """The kernel of the first convolution over an image, by the order of names."""
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 4 and leaf.shape[2] <= 3]
    return np.asarray(kernels[0]) if kernels else None
