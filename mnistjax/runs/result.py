"""The end of a run: the test set scored once, summary.json, model.safetensors, report.html."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mnistjax.data.dataset import Dataset, Split
from mnistjax.data.folder import PHOTOS
from mnistjax.data.ink import usual_ink
from mnistjax.disk import write_whole
from mnistjax.files import params_sha256, versions, write_json
from mnistjax.models.functional import Params
from mnistjax.models.summary import LayerRow
from mnistjax.processes import is_leader
from mnistjax.runs.archive import ARCHIVE, write_archive
from mnistjax.runs.train_run import Trained
from mnistjax.training.evaluate import evaluate
from mnistjax.training.metrics import Metrics

SUSPECTS, TEST_LOGITS = "suspects.csv", "test_logits.npz"


@dataclass(frozen=True, kw_only=True)
class About:
    """What a result says beside its figures."""

    data: Dataset
    layers: list[LayerRow]
    train_examples: int
    validation_examples: int
    network: dict[str, Any]
    """What was trained, as `models.describe` says it, for who loads it."""
    facts: dict[str, Any] = field(default_factory=dict)
    """For the summary, as they are."""
    scored: Split | None = None
    """What the eval step takes instead of the test images: their features."""
    whole: Params | None = None
    """All parameters, where more than those trained belong to the model."""
    filters: np.ndarray | None = None
    """The first layer's kernel [height, width, in, out], to be shown."""
    figures: dict[str, Any] = field(default_factory=dict)
    """More figures for the report, by their titles."""
    examined: tuple[Split, Split] | None = None
    """Training images to find suspicious labels among, and what the eval step takes of them."""
    notice: str = ""
    """What no reader may miss, beside the data's own."""


class Result(NamedTuple):
    """The test set's metrics, and what was written."""

    metrics: Metrics
    summary: dict[str, Any]
    report: Path


def write_result(directory: Path, trained: Trained, about: About) -> Result:
    """Score the test set with what validation chose; write `summary.json` and the report."""
    # matplotlib: half a second of import
    from mnistjax.report.figures import seen_figure
    from mnistjax.report.page import write_report
    from mnistjax.report.scores import by_class, mean_recall, write_predictions

    metrics, logits = evaluate(
        trained.eval_step,
        trained.params,
        about.scored or about.data.test,
        model_state=trained.model_state,
    )
    suspects = _suspects(directory, trained, about)
    if not is_leader():
        summary = summarise_run(trained, about, metrics)
        return Result(metrics, summary, directory / "report.html")
    data, labels = about.data, about.data.test.labels
    scores = by_class(logits, labels, data.class_names)
    summary = summarise_run(trained, about, metrics) | {
        "test_balanced_accuracy": mean_recall(scores),
        "classes": {row.name: row._asdict() for row in scores},
    }
    if data.test_files:
        write_predictions(directory / "predictions.csv", data, logits)
    more = about.figures | suspects
    params = about.whole or trained.params
    write_archive(directory / ARCHIVE, params, trained.model_state, archived(about, summary))
    write_test_logits(directory / TEST_LOGITS, logits, labels)
    write_json(directory / "summary.json", summary)
    shown = np.linspace(0, len(data.train.labels) - 1, 25).astype(int) if data.test_files else []
    if len(shown):
        seen = data.train.images[np.unique(shown).astype(int)]
        more |= {"What the network sees": seen_figure(seen)}
    report = write_report(
        directory,
        summary=summary,
        epochs=trained.epochs,
        layers=about.layers,
        test=about.data.test,
        logits=logits,
        class_names=about.data.class_names,
        filters=about.filters,
        more=more,
    )
    return Result(metrics, summary, report)


def write_test_logits(path: Path, logits: np.ndarray, labels: np.ndarray) -> None:
    """What the network said of each test image, and what is right: for whoever compares runs."""
    file = io.BytesIO()
    np.savez(file, logits=logits, labels=labels)
    write_whole(path, file.getvalue())


def _suspects(directory: Path, trained: Trained, about: About) -> dict[str, Any]:
    """Write `suspects.csv`; its head as a figure. Nothing where none are looked for."""
    from mnistjax.report.suspects import find_suspects, suspects_figure, write_suspects

    if about.examined is None:
        return {}
    split, scored = about.examined
    _, logits = evaluate(trained.eval_step, trained.params, scored, model_state=trained.model_state)
    if not is_leader():
        return {}
    suspects = find_suspects(logits, split.labels)
    write_suspects(directory / SUSPECTS, suspects, split, about.data)
    figure = suspects_figure(suspects, split, about.data)
    return {"Training images whose labels look wrong": figure}


def archived(about: About, summary: dict[str, Any]) -> dict[str, Any]:
    """What `model.safetensors` says beside its arrays: all that an answer needs, JSON."""
    data = about.data
    photos = data.photos or PHOTOS
    images = {"shape": [*data.image_shape], "fit": photos.fit, "photos": data.photos is not None}
    names = "experiment", "dataset", "dataset_sha256", "test_examples", "test_accuracy", "versions"
    ink = None if data.photos else usual_ink(data.train.images)
    images |= {"ink_side": ink and ink.side, "ink_stroke": ink and ink.stroke}
    return {
        "network": about.network,
        "images": images | {"enlarged_from": data.enlarged_from},
        "class_names": [*data.class_names],
    } | {name: summary[name] for name in names if name in summary}


def summarise_run(trained: Trained, about: About, metrics: Metrics) -> dict[str, Any]:
    """`summary.json`: `about.facts` first, then what was trained, on what, and how it went."""
    epochs, best, data = trained.epochs, trained.best, about.data
    seconds = sum(row["train_seconds"] for row in epochs)
    state = {"model_state_sha256": params_sha256(trained.model_state)}
    return (
        about.facts
        | {
            "train_examples": about.train_examples,
            "validation_examples": about.validation_examples,
            "compile_seconds": trained.compile_seconds,
            "dataset": data.name,
            "dataset_origin": data.origin,
            "dataset_sha256": data.sha256,
            "notice": " ".join(part for part in (data.notice, about.notice) if part),
            "test_examples": metrics.count,
        }
        | {f"test_{name}": value for name, value in metrics.values.items()}
        | {
            "epochs": len(epochs),
            "best_epoch": best["epoch"],
            "best_validation_loss": best.get("val_loss"),
            "best_validation_accuracy": best.get("val_accuracy"),
            "parameters": sum(row.parameters for row in about.layers),
            "trainable_parameters": sum(row.parameters for row in about.layers if row.trains),
            "train_seconds": seconds,
            "images_per_second": about.train_examples * len(epochs) / seconds,
            "params_sha256": params_sha256(about.whole or trained.params),
            "platform": jax.default_backend(),
            "device_kind": jax.devices()[0].device_kind,
            "device_count": jax.device_count(),
            "process_count": jax.process_count(),
            "versions": versions(),
        }
        | (state if jax.tree.leaves(trained.model_state) else {})
    )


def say_result(result: Result) -> str:
    """The last line of a run.

    >>> facts = {"dataset": "digits", "train_seconds": 7.2, "params_sha256": "ab" * 32}
    >>> say_result(Result(Metrics(1.0, 3, 4), facts, Path("report.html")))
    'test accuracy 75.00% (1 wrong of 4) on digits · 7 s of training · parameters abababababab · report report.html'
    """  # noqa: E501
    metrics, summary, report = result
    return (
        f"test accuracy {metrics.accuracy:.2%}"
        f" ({metrics.count - (metrics.correct or 0)} wrong of {metrics.count:,})"
        f" on {summary['dataset']} · {summary['train_seconds']:.0f} s of training"
        f" · parameters {summary['params_sha256'][:12]} · report {report}"
    )
