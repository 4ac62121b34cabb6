"""A finished run on a data set, from the two paths to the report."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from mnistjax.errors import UsageError
from mnistjax.inference.calibration import fit_temperature
from mnistjax.inference.classifier import Classifier, load
from mnistjax.inference.evaluation import (
    Part,
    check_classes,
    held_out,
    part_of,
    score,
    seen_by,
)
from mnistjax.inference.evaluation_report import (
    facts_of,
    in_words,
    summarise_evaluation,
    summarise_temperature,
    write_evaluation,
)
from mnistjax.inference.own_data import Wanted, settings_of_run


def evaluate_run(
    run: Path,
    directory: Path,
    *,
    wanted: Wanted | None = None,
    part: Part = "test",
    temperature: float | None = None,
    calibrate: bool = False,
) -> str:
    """Score `run` on `part` of what is `wanted`, into `directory`; return the result in words.

    Without `wanted` it is what the run was trained on, so the result is its own. With `calibrate`
    a temperature is fitted on what the run held out. Raises `DataError` for other classes than the
    run's, `UsageError` where nothing says what was held out, and what `load` raises.
    """
    classifier, settings = load(run), settings_of_run(run)
    own = Wanted.by(settings)
    wanted = wanted or own or Wanted()
    data = wanted.load(classifier.form)
    check_classes(classifier, data)
    asked = part_of(data, part)
    split, left_out = seen_by(classifier, data, asked, skip_unreadable=wanted.skip_unreadable)
    data = replace(data, notice="; ".join(filter(None, (data.notice, left_out))))
    evaluation = score(classifier, split)
    labels, names = split.labels, classifier.class_names
    summary = facts_of(classifier, run.absolute().name, data, part)
    summary |= summarise_evaluation(evaluation, labels, names)
    fitted_on = 0
    if calibrate:
        temperature, fitted_on = fitted(classifier, settings, data, own)
    if temperature is not None:
        summary |= summarise_temperature(evaluation, labels, temperature, fitted_on=fitted_on)
    report = write_evaluation(
        directory, summary=summary, split=split, logits=evaluation.logits, class_names=names
    )
    return in_words(summary, report)


def fitted(
    classifier: Classifier, settings: dict[str, Any], data: Any, own: Wanted | None
) -> tuple[float, int]:
    """A temperature, and on how many held-out images of the run's own data it was fitted."""
    if not settings:
        why = "a model.safetensors does not say what its run held out"
        raise UsageError("`calibrate=True`", why, fix="pass the run's directory")
    if data.sha256 != settings.get("dataset_sha256") and own is not None:
        data = own.load(classifier.form)
    held = held_out(data, settings)
    split, _ = seen_by(classifier, data, held)
    return fit_temperature(score(classifier, split).logits, split.labels), len(split.labels)
