"""The end of a training with several seeds: summary.json and report.html over all of them."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mnistjax.data.dataset import Dataset
from mnistjax.files import write_json
from mnistjax.inference.calibration import reliability
from mnistjax.inference.several import Several, several_of, spread
from mnistjax.report.figures import most_wrong_figure
from mnistjax.report.page import write_page
from mnistjax.report.reliability import reliability_figure
from mnistjax.report.seeds import accuracies_figure, curves_figure
from mnistjax.runs.run import Run
from mnistjax.runs.seeds import Seeds

SHOWN = 25  # of the images that are disagreed about


def write_seeds(trained: Seeds, data: Dataset) -> str:
    """Write what the runs that ended make of `data` together; the line that says it."""
    runs = trained.runs
    several = several_of([*runs.values()])
    each = {seed: run.summary for seed, run in runs.items()}
    summary = summarise_seeds(each, several)
    summary |= {"diverged": {str(seed): why for seed, why in trained.diverged.items()}}
    write_json(trained.directory / "summary.json", summary)
    report = write_page(
        trained.directory,
        "seeds.html.j2",
        _figures(runs, several, summary, data),
        summary=summary,
        rows=_rows(each, several),
    )
    return say_seeds(summary, report)


def summarise_seeds(each: dict[int, dict[str, Any]], several: Several) -> dict[str, Any]:
    """What the summaries, by seed, say alike; mean, spread, ensemble, calibration, disagreement."""
    first, *others = each.values()
    alike = {
        name: value
        for name, value in first.items()
        if all(name in other and other[name] == value for other in others)
    }
    of = spread(several.accuracies)
    one = len(each) == 1
    return {name: value for name, value in alike.items() if name not in _OF_ONE} | {
        "seeds": [*each],
        "test_accuracy": of.mean,
        "test_accuracy_sd": None if one else of.sd,
        "test_accuracy_interval": None if one else [of.low, of.high],
        "test_accuracies": {str(seed): summary["test_accuracy"] for seed, summary in each.items()},
        "test_loss": float(np.mean([summary["test_loss"] for summary in each.values()])),
        "ece": float(several.eces.mean()),
        "ensemble_accuracy": float(several.right.mean()),
        "ensemble_ece": reliability(several.ensemble, several.labels).ece,
        "images_disagreed": int((several.disagreement > 0).sum()),
        "disagreement": float(several.disagreement.mean()),
        "train_seconds": sum(summary["train_seconds"] for summary in each.values()),
        "params_sha256": {str(seed): summary["params_sha256"] for seed, summary in each.items()},
    }


_OF_ONE = {"seed", "classes", "test_balanced_accuracy", "best_epoch", "compile_seconds"}


def _rows(each: dict[int, dict[str, Any]], several: Several) -> list[dict[str, Any]]:
    rows = []
    scored = zip(each.items(), several.answers, several.eces, strict=True)
    for (seed, summary), answers, ece in scored:
        rows.append(
            {
                "seed": seed,
                "accuracy": summary["test_accuracy"],
                "wrong": int((answers != several.labels).sum()),
                "loss": summary["test_loss"],
                "ece": float(ece),
                "best_epoch": summary["best_epoch"],
                "sha256": summary["params_sha256"],
            }
        )
    return rows


def _figures(
    runs: dict[int, Run], several: Several, summary: dict[str, Any], data: Dataset
) -> dict[str, Figure]:
    drawn = {
        "accuracies": accuracies_figure(
            dict(zip(runs, several.accuracies.tolist(), strict=True)),
            mean=summary["test_accuracy"],
            within=summary["test_accuracy_interval"] or (float("nan"), float("nan")),
            together=summary["ensemble_accuracy"],
        ),
        "curves": curves_figure({seed: run.epochs for seed, run in runs.items()}),
        "reliability": reliability_figure(*reliability(several.ensemble, several.labels)),
    }
    worst = np.argsort(-several.disagreement, kind="stable")[:SHOWN]
    worst = worst[several.disagreement[worst] > 0]
    if len(worst):
        logits = np.log(np.maximum(several.ensemble[worst], 1e-30))
        images = data.test.images[worst]
        labels = several.labels[worst]
        drawn["disagreed"] = most_wrong_figure(images, labels, logits, data.class_names)
    return drawn


def say_seeds(summary: dict[str, Any], report: Path) -> str:
    """The last line of a run of several seeds.

    >>> facts = {"seeds": [0, 1], "test_accuracy": 0.995, "test_accuracy_sd": 0.0004,
    ...          "test_accuracy_interval": [0.9914, 0.9986], "ensemble_accuracy": 0.9961,
    ...          "images_disagreed": 48, "dataset": "mnist", "train_seconds": 61.0}
    >>> print(say_seeds(facts, Path("report.html")))
    test accuracy 99.50 ± 0.04 % (2 seeds; the mean of all in 99.14..99.86 with 95 %) on mnist · all together 99.61 % · 48 images not answered alike · 61 s of training · report report.html
    """  # noqa: E501
    count, percent = len(summary["seeds"]), 100 * summary["test_accuracy"]
    if count > 1:
        low, high = (100 * end for end in summary["test_accuracy_interval"])
        within = f"the mean of all in {low:.2f}..{high:.2f} with 95 %"
        said = (
            f"{percent:.2f} ± {100 * summary['test_accuracy_sd']:.2f} % ({count} seeds; {within})"
        )
    else:
        said = f"{percent:.2f} % (1 seed, which says nothing of others)"
    return (
        f"test accuracy {said} on {summary['dataset']}"
        f" · all together {100 * summary['ensemble_accuracy']:.2f} %"
        f" · {summary['images_disagreed']:,} images not answered alike"
        f" · {summary['train_seconds']:.0f} s of training · report {report}"
    )
