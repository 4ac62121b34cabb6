"""report.html: one file that says how a run went, to somebody who was not there."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from mnistjax.data.dataset import Split
from mnistjax.disk import write_whole
from mnistjax.models.summary import LayerRow, total_flops
from mnistjax.report import figures
from mnistjax.report.fonts import drawable
from mnistjax.report.scores import by_class, confusion, most_wrong


def write_report(  # noqa: PLR0913
    directory: Path,
    *,
    summary: dict[str, Any],
    epochs: list[dict[str, Any]],
    layers: list[LayerRow],
    test: Split,
    logits: np.ndarray,
    class_names: tuple[str, ...],
    filters: np.ndarray | None = None,
    more: dict[str, Figure] | None = None,
) -> Path:
    """Write `directory/report.html` and `directory/figures/*.png`; return the page's path.

    `logits` are float [n, classes] in the order of `test`, `filters` the first layer's kernel
    [height, width, in, out] if it is to be shown, `more` figures by their titles. Names are
    escaped; the page loads nothing from anywhere.
    """
    drawn = {"learning_curves": figures.learning_curves(epochs, best=summary["best_epoch"])}
    drawn |= score_figures(test, logits, class_names)
    if filters is not None:
        drawn["filters"] = figures.filters_figure(filters)
    titles = {re.sub(r"\W+", "_", title.lower()): title for title in more or {}}
    drawn |= {name: (more or {})[title] for name, title in titles.items()}
    return write_page(
        directory,
        "template.html.j2",
        drawn,
        summary=summary,
        layers=layers,
        frozen=not all(row.trains for row in layers),
        flops=total_flops(layers),
        titles=titles,
        **scores(test, logits, class_names),
    )


def score_figures(
    test: Split, logits: np.ndarray, class_names: tuple[str, ...]
) -> dict[str, Figure]:
    """The figures of `scores.html.j2`."""
    worst = most_wrong(logits, test.labels)
    return {
        "confusion": figures.confusion_figure(confusion(logits, test.labels), class_names),
        "most_wrong": figures.most_wrong_figure(
            test.images[worst], test.labels[worst], logits[worst], class_names
        ),
    }


def scores(test: Split, logits: np.ndarray, class_names: tuple[str, ...]) -> dict[str, Any]:
    """The values of `scores.html.j2`."""
    return {
        "wrong": int((logits.argmax(axis=1) != test.labels).sum()),
        "classes": by_class(logits, test.labels, class_names),
        "replaced": drawable(class_names).replaced,
    }


def write_page(
    directory: Path,
    template: str,
    drawn: dict[str, Figure],
    *,
    summary: dict[str, Any],
    **values: Any,
) -> Path:
    """`directory/report.html` from a template of this room, and `figures/<name>.png` of `drawn`."""
    (directory / "figures").mkdir(exist_ok=True)
    for name, figure in drawn.items():
        figures.save_png(figure, directory / "figures" / f"{name}.png")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(
        summary=summary,
        figure={n: Markup(figures.to_svg(f, salt=n)) for n, f in drawn.items()},
        details=_flat(summary),
        **values,
    )
    write_whole(directory / "report.html", page)
    return directory / "report.html"


def _flat(summary: dict[str, Any]) -> dict[str, str]:
    rows = {}
    for name, value in summary.items():
        if name == "classes":  # a table of its own
            continue
        if isinstance(value, dict):
            rows[name] = ", ".join(f"{key} {item}" for key, item in value.items())
        elif value not in ("", None):
            rows[name] = f"{value:,.5g}" if isinstance(value, float) else str(value)
    return rows
