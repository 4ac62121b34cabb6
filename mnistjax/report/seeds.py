"""What several seeds made, as pictures: their scores, and how they came there."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mnistjax.report.figures import BAD, GOOD, INK, STYLE, TRAIN

NAMED = 30  # seeds whose numbers can be told apart on an axis


def accuracies_figure(
    accuracies: Mapping[int, float], *, mean: float, within: Sequence[float], together: float
) -> Figure:
    """A dot for each seed; a line and a band for their mean and its interval, one for the ensemble.

    All are shares, drawn in per cent. A `within` of NaN has no band.
    """
    seeds, values = [*accuracies], [100 * value for value in accuracies.values()]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        axes = figure.subplots()
        band = [100 * end for end in within]
        axes.axhspan(*band, color=TRAIN, alpha=0.2, lw=0, label="its 95 % interval")
        axes.axhline(100 * mean, color=TRAIN, lw=1, label="mean")
        axes.axhline(100 * together, color=GOOD, ls="--", lw=1.5, label="all together")
        places = range(len(seeds))
        axes.plot(places, values, "o", color=INK, ms=5, label="one seed")
        if len(seeds) <= NAMED:
            axes.set_xticks(places, [str(seed) for seed in seeds])
        axes.set(xlabel="seed", ylabel="test accuracy, %")
        axes.grid(alpha=0.2, color="#808080", axis="y")
        figure.legend(frameon=False, loc="outside right upper")
        return figure


def curves_figure(epochs: Mapping[int, list[dict[str, Any]]]) -> Figure:
    """Loss by epoch of every seed: of validation, or of training where nothing was held out."""
    rows = [row for of in epochs.values() for row in of]
    part, what = ("val", "validation") if "val_loss" in rows[0] else ("train", "training")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        axes = figure.subplots()
        for of in epochs.values():
            x, y = [row["epoch"] for row in of], [row[f"{part}_loss"] for row in of]
            axes.plot(x, y, ".-", color=BAD if part == "val" else TRAIN, alpha=0.5, lw=1)
        axes.set(xlabel="epoch", ylabel=f"{what} loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.2, color="#808080")
        return figure
