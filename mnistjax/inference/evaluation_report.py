"""The end of an evaluation: evaluation.json, predictions.csv, report.html with calibration."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mnistjax.data.dataset import Dataset, Split
from mnistjax.files import versions, write_json
from mnistjax.inference.calibration import Reliability, negative_log_likelihood, reliability
from mnistjax.inference.classifier import Classifier
from mnistjax.inference.evaluation import Evaluation
from mnistjax.report.page import score_figures, scores, write_page
from mnistjax.report.reliability import reliability_figure
from mnistjax.report.scores import by_class, mean_recall, probabilities


def summarise_evaluation(
    evaluation: Evaluation, labels: np.ndarray, class_names: tuple[str, ...]
) -> dict[str, Any]:
    """Accuracy, loss (as the run's summary has them), calibration, and every class."""
    classes = by_class(evaluation.logits, labels, class_names)
    return {
        "examples": evaluation.metrics.count,
        "accuracy": evaluation.metrics.accuracy,
        "loss": evaluation.metrics.loss,
        "balanced_accuracy": mean_recall(classes),
        "ece": reliability(probabilities(evaluation.logits), labels).ece,
        "classes": {row.name: row._asdict() for row in classes},
    }


def summarise_temperature(
    evaluation: Evaluation, labels: np.ndarray, temperature: float, *, fitted_on: int
) -> dict[str, Any]:
    """Loss and calibration with a temperature, fitted on so many held-out images; 0: given."""
    cooled = reliability(probabilities(evaluation.logits / temperature), labels)
    return {
        "temperature": temperature,
        "fitted_on": fitted_on,
        "loss_with_temperature": negative_log_likelihood(evaluation.logits, labels, temperature),
        "ece_with_temperature": cooled.ece,
    }


def facts_of(classifier: Classifier, run: str, data: Dataset, part: str) -> dict[str, Any]:
    """What was scored by what, for the summary."""
    return {
        "run": run,
        "network": classifier.about["network"]["network"],
        "model_sha256": classifier.about["sha256"],
        "dataset": data.name,
        "dataset_origin": data.origin,
        "dataset_sha256": data.sha256,
        "part": part,
        "notice": data.notice,
        "versions": versions(),
    }


def write_evaluation(
    directory: Path,
    *,
    summary: dict[str, Any],
    split: Split,
    logits: np.ndarray,
    class_names: tuple[str, ...],
) -> Path:
    """Write `evaluation.json`, `report.html` and `figures/`; return the page's path."""
    write_json(directory / "evaluation.json", summary)
    drawn = {"reliability": _diagram(logits, split.labels)}
    if temperature := summary.get("temperature"):
        drawn["reliability_with_temperature"] = _diagram(logits / temperature, split.labels)
    return write_page(
        directory,
        "evaluation.html.j2",
        drawn | score_figures(split, logits, class_names),
        summary=summary,
        **scores(split, logits, class_names),
    )


def _diagram(logits: np.ndarray, labels: np.ndarray) -> Figure:
    bins: Reliability = reliability(probabilities(logits), labels)
    return reliability_figure(*bins)


def in_words(summary: dict[str, Any], report: Path) -> str:
    """The lines that the command ends with.

    >>> facts = {"accuracy": 0.75, "examples": 4, "dataset": "digits", "part": "test",
    ...          "loss": 0.5, "balanced_accuracy": 0.7, "ece": 0.1, "notice": ""}
    >>> print(in_words(facts, Path("report.html")))
    accuracy 75.00% (1 wrong of 4) on digits, test · balanced 70.00% · loss 0.5000 · ECE 10.00%
    report report.html
    """
    wrong = round((1 - summary["accuracy"]) * summary["examples"])
    notice = [f"NOTE  {summary['notice']}"] if summary["notice"] else []
    lines = [
        *notice,
        f"accuracy {summary['accuracy']:.2%} ({wrong:,} wrong of {summary['examples']:,})"
        f" on {summary['dataset']}, {summary['part']}"
        f" · balanced {summary['balanced_accuracy']:.2%}"
        f" · loss {summary['loss']:.4f} · ECE {summary['ece']:.2%}",
    ]
    if temperature := summary.get("temperature"):
        whence = f", fitted on {n:,} held-out images" if (n := summary["fitted_on"]) else ""
        lines.append(
            f"with temperature {temperature:.3f}{whence}:"
            f" loss {summary['loss_with_temperature']:.4f}"
            f" · ECE {summary['ece_with_temperature']:.2%}"
        )
    return "\n".join([*lines, f"report {report}"])
