"""Any data set with a network's classes, scored as the run scored its own test set."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float32

from mnistjax.data.dataset import Dataset, Split
from mnistjax.data.found_pictures import named, refuse
from mnistjax.data.lazy_images import parts
from mnistjax.errors import DataError, UsageError
from mnistjax.inference.classifier import Classifier
from mnistjax.inference.files import see_each, without_answer
from mnistjax.inference.own_data import parts_of_run
from mnistjax.training.evaluate import evaluate, make_eval_step
from mnistjax.training.metrics import Metrics

Part = Literal["test", "validation", "train", "all"]


class Evaluation(NamedTuple):
    """The figures, and the logits they are of, in the split's order."""

    metrics: Metrics
    logits: Float32[np.ndarray, "n classes"]


def score(classifier: Classifier, split: Split) -> Evaluation:
    """Loss and accuracy of images as the network sees them: the run's own, bit for bit.

    Raises `DataError` for labels that are no classes of it (`check_split`).
    """
    logits = np.concatenate([classifier.logits(part) for part in parts(split.images)])
    step = make_eval_step(apply_fn=lambda _, logits: logits[:, 0, 0], preprocess=lambda x: x)
    return Evaluation(*evaluate(step, {}, Split(logits[:, None, None], split.labels)))


def check_classes(classifier: Classifier, data: Dataset) -> None:
    """Raise `DataError` unless `data` has the classes of the network, whatever their order."""
    ours, theirs = set(classifier.class_names), set(data.class_names)
    if ours == theirs:
        return
    told = [
        f"{words} {', '.join(sorted(names)[:5])}{' and more' if len(names) > 5 else ''}"
        for words, names in (("it lacks", ours - theirs), ("the run does not know", theirs - ours))
        if names
    ]
    why = f"has other classes than the run: {'; '.join(told)}"
    raise DataError(data.name, why, fix="pass a data set with the same class names")


def part_of(data: Dataset, part: Part) -> Split:
    """One split of `data`, or all of them; raise `UsageError` for a validation it has not."""
    own = [data.validation] if data.validation is not None else []
    if part == "validation" and not own:
        fix = "pass `part=test`, train or all"
        raise UsageError("`part` validation", f"{data.name} has no such split of its own", fix=fix)
    if part == "all":
        images, labels = zip(data.train, *own, data.test, strict=True)
        return Split(np.concatenate([image[:] for image in images]), np.concatenate(labels))
    return {"test": data.test, "train": data.train, "validation": (own or [data.test])[0]}[part]


def seen_by(
    classifier: Classifier, data: Dataset, split: Split, *, skip_unreadable: bool = False
) -> tuple[Split, str]:
    """`split` of `data` as the network sees it, its labels by the names of its classes.

    Pictures of characters are brought to the form of training; of those in which none, or several,
    are found, `DataError` names all, or with `skip_unreadable` the notice does that comes with it.
    Raises `DataError` for arrays of another shape than the network's.
    """
    place = np.array([classifier.class_names.index(name) for name in data.class_names], np.int32)
    labels, form = place[split.labels], classifier.form
    if data.photos is not None and form.ink_side is not None:
        got = see_each(classifier, list(split.images))
        numbers = tuple(f"picture {number}" for number in range(1, len(got) + 1))
        left_out = without_answer(data.test_files if split is data.test else numbers, got)
        seen = [one for one in got if isinstance(one, np.ndarray)]
        if not skip_unreadable or not seen:
            refuse(left_out)
        notice = f"left out, without an answer: {named(left_out)}" if left_out else ""
        kept = [isinstance(one, np.ndarray) for one in got]
        return Split(np.concatenate(seen), labels[kept]), notice
    ours, theirs = ("x".join(map(str, s)) for s in (form.shape, split.images.shape[1:]))
    if ours != theirs:
        why = f"its images are {theirs}, the run's {ours}"
        raise DataError(data.name, why, fix=f"pass images of {ours}, or a folder of pictures")
    return split._replace(labels=labels), ""


def held_out(data: Dataset, settings: Mapping[str, Any]) -> Split:
    """What chose the epoch in a run of `settings` (`Run.settings`) on `data`.

    Raises `DataError` for other data, and `UsageError` for a run that held nothing out.
    """
    if data.sha256 != settings.get("dataset_sha256"):
        why = "is not what the run was trained on, and only that says what it held out"
        raise DataError(data.name, why, fix="pass the run's own data, or drop `calibrate=True`")
    _, held = parts_of_run(data, settings)
    if held is None:
        fix = "train with a share held out, or drop `calibrate=True`"
        raise UsageError("`calibrate=True`", "the run held nothing out to fit it on", fix=fix)
    return held
