"""`train`: from a model and a data set to a finished run directory, in one call."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from mnistjax.data.augment import Augment
from mnistjax.data.dataset import Dataset
from mnistjax.data.prefetch import placement
from mnistjax.data.split import part_validation
from mnistjax.files import params_sha256
from mnistjax.models.described import describe
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
from mnistjax.runs.settings import Setting
from mnistjax.runs.train_run import Trained, train_run
from mnistjax.training.batch_size import check_batch_size, check_divides, usual_batch_size
from mnistjax.training.freeze import Mask, freeze_mask, paths
from mnistjax.training.latest import RATES
from mnistjax.training.losses import LossFn, cross_entropy
from mnistjax.training.metrics import Metric

Model = nnx.Module | tuple[ApplyFn, Params] | tuple[ApplyFn, Params, ModelState]

ADAM = 1e-3  # the rate that suits most networks


@jax.transfer_guard("allow")
def train(  # noqa: PLR0913
    model: Model,
    data: Dataset,
    directory: Path | str,
    *,
    tx: optax.GradientTransformation | None = None,
    loss_fn: LossFn = cross_entropy,
    metrics: Mapping[str, Metric] | None = None,
    trainable: Sequence[str] = ("*",),
    epochs: int = 5,
    batch_size: int | None = None,
    seed: int = 0,
    validation: float = 0.1,
    augment: Augment | None = None,
    options: RunOptions | None = None,
) -> Run:
    """Train `model` on `data` into `directory`: checkpoints, metrics, summary and a report.

    `model` is an NNX module, or `(apply_fn, params)` of another library, with its state
    `(apply_fn, params, model_state)` (`with_state`); it sees float32 images in 0..1. `tx` is Adam
    at 1e-3 if not given; `loss_fn` and `metrics` as in `make_train_step`, shown wherever the loss
    is. `trainable`: patterns over parameter paths (`freeze_mask`); the rest keeps its values.
    `augment`, an `Augmentation` for one, changes training images. Of the examples a share of
    `validation` is held out, unless the data has such a split, to choose the epoch that is scored
    on the test set, once, by its loss; of 0, the last is. A usual `batch_size` is 128, less of few.

    After a kill, Ctrl-C (`Stopped`) or for more `epochs`, call it again with the same arguments
    (functions are not compared) and `RunOptions(resume=True)`, for the bits of a run never stopped.
    Raises `StorageError` for a used directory, and as `train_run`.

    >>> import tempfile, mnistjax as mj
    >>> def linear(params, images):
    ...     return images.reshape(len(images), -1) @ params["w"]
    >>> model, hush = (linear, {"w": np.zeros((784, 10), np.float32)}), mj.RunOptions(quiet=True)
    >>> with tempfile.TemporaryDirectory() as place:
    ...     mj.train(model, mj.load_dataset("digits"), place, options=hush).settings["seed"]
    0
    """
    options, directory = options or RunOptions(), Path(directory)
    apply_fn, params, model_state = as_functions(model)
    kept, held_out = part_validation(data, data.train, fraction=validation, seed=seed)
    plan = Plan(
        apply_fn=apply_fn,
        params=params,
        model_state=model_state,
        stages=[_stage(epochs, tx, freeze_mask(params, trainable=trainable))],
        train=kept,
        validation=held_out,
        batch_size=_batch_size(batch_size, len(kept.labels)),
        seed=seed,
        loss_fn=loss_fn,
        metrics=metrics or {},
        augment=augment,
    )
    settings = _settings(plan, data, validation, trainable)
    _say(options, placement(kept))
    trained = train_run(plan, directory, settings=settings, options=options)
    about = _about(model, data, plan, trained, directory.name)
    _say(options, say_result(write_result(directory, trained, about)))
    return Run(directory)


def _stage(epochs: int, tx: optax.GradientTransformation | None, frozen: Mask) -> Stage:
    rates = {} if tx else {RATES: ADAM}
    tx = optax.selective_transform(tx or optax.adam(ADAM), freeze_mask=frozen)
    return Stage(epochs, tx, frozen, rates)


def _say(options: RunOptions, line: str) -> None:
    if not options.quiet:
        console.print(line, highlight=False)


def _batch_size(given: int | None, examples: int) -> int:
    devices = jax.device_count()
    batch_size = given or usual_batch_size(examples, devices)
    check_batch_size(batch_size, examples)
    check_divides(batch_size, devices)
    return batch_size


def _settings(
    plan: Plan, data: Dataset, validation: float, trainable: Sequence[str]
) -> dict[str, Setting]:
    model = params_sha256((plan.params, plan.model_state))
    return {
        "validation": Setting(validation),
        "trainable": Setting(list(trainable)),
        "epochs": Setting(plan.epochs, may_change=True),
        "batch_size": Setting(plan.batch_size),
        "seed": Setting(plan.seed),
        "class_names": Setting([*data.class_names], may_change=True),
        "dataset_sha256": Setting(data.sha256, given_by=("data",)),
        "model_sha256": Setting(model, given_by=("model",)),
    }


def _about(model: Model, data: Dataset, plan: Plan, trained: Trained, name: str) -> About:
    return About(
        data=data,
        layers=_layers(model, data, plan.params, plan.stages[0].frozen),
        train_examples=plan.examples,
        validation_examples=plan.held_out,
        network=_described(model),
        facts={"experiment": name, "batch_size": plan.batch_size, "seed": plan.seed},
        filters=first_filters(trained.params),
    )


def _described(model: Model) -> dict[str, Any]:
    if isinstance(model, nnx.Module):
        return describe(model)
    return {"network": getattr(model[0], "__name__", type(model[0]).__name__), "ours": False}


def as_functions(model: Model) -> tuple[ApplyFn, Params, ModelState]:
    if isinstance(model, nnx.Module):
        return functional_with_state(model) if holds_state(model) else (*functional(model), ())
    apply_fn, params, *model_state = model
    params, model_state = jax.tree.map(jax.numpy.array, (params, model_state))  # steps donate them
    return apply_fn, params, model_state[0] if model_state else ()


def _layers(model: Model, data: Dataset, params: Params, frozen: Any) -> list[LayerRow]:
    """A row a layer; one trains if any of its parameters does."""
    named = isinstance(model, nnx.Module)
    rows = summarise(model, data.image_shape) if named else summarise_params(params)
    trained = {
        path for path, out in zip(paths(params), jax.tree.leaves(frozen), strict=True) if not out
    }
    return [
        row._replace(trains=any(f"{path}/".startswith(f"{row.name}/") for path in trained))
        for row in rows
    ]


def first_filters(params: Params) -> np.ndarray | None:
    """The kernel of the first convolution over an image, by the order of names; None without one.

    >>> first_filters({"conv1": {"kernel": np.zeros((3, 3, 1, 8))}}).shape
    (3, 3, 1, 8)
    """
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 4 and leaf.shape[2] <= 3]
    return np.asarray(kernels[0]) if kernels else None
