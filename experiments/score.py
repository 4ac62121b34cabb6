"""The end of every run: the test set scored once, summary.json, report.html."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from mnistjax.data.dataset import Dataset, Split
from mnistjax.files import params_sha256, versions, write_json
from mnistjax.models.functional import Params
from mnistjax.models.summary import LayerRow
from mnistjax.training.evaluate import EvalStep, evaluate
from mnistjax.training.metrics import Metrics


def score_and_report(
    directory: Path,
    data: Dataset,
    *,
    eval_step: EvalStep,
    params: Params,
    whole: Params,
    epochs: list[dict[str, Any]],
    best: dict[str, Any],
    layers: list[LayerRow],
    facts: dict[str, Any],
    filters: np.ndarray,
    scored: Split,
    figures: dict[str, Any],
    notice: str,
) -> tuple[Metrics, dict[str, Any], Path]:
    """Score `params` on the test split; return the metrics, the summary and the report's path.

    `scored` is what `eval_step` takes of it: its images, or their features. `whole` are the
    parameters of the model with its frozen part. `epochs` are the run's epoch rows, `best` the
    one that was chosen; `facts` go into the summary as they are.
    """
    from mnistjax.report.page import write_report  # matplotlib and scikit-learn: 2 s of import

    metrics, logits = evaluate(eval_step, params, scored)
    train_seconds = sum(row["train_seconds"] for row in epochs)
    summary = facts | {
        "dataset": data.name,
        "dataset_origin": data.origin,
        "dataset_sha256": data.sha256,
        "notice": notice,
        "test_examples": metrics.count,
        "test_accuracy": metrics.accuracy,
        "test_loss": metrics.loss,
        "epochs": len(epochs),
        "best_epoch": best["epoch"],
        "best_validation_loss": best["val_loss"],
        "best_validation_accuracy": best["val_accuracy"],
        "parameters": sum(row.parameters for row in layers),
        "trainable_parameters": sum(row.parameters for row in layers if row.trains),
        "train_seconds": train_seconds,
        "images_per_second": facts["train_examples"] * len(epochs) / train_seconds,
        "params_sha256": params_sha256(whole),
        "platform": jax.default_backend(),
        "device_kind": jax.devices()[0].device_kind,
        "device_count": jax.local_device_count(),
        "versions": versions(),
    }
    write_json(directory / "summary.json", summary)
    report = write_report(
        directory,
        summary=summary,
        epochs=epochs,
        layers=layers,
        test=data.test,
        logits=logits,
        class_names=data.class_names,
        filters=filters,
        notice=notice,
        more=figures,
    )
    return metrics, summary, report
