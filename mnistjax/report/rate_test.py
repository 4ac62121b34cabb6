"""What a test of learning rates found, as a picture and a table."""

import csv
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from mnistjax.report.figures import BAD, STYLE, TRAIN, save_png
from mnistjax.training.learning_rate import RateTest


def rate_figure(found: RateTest) -> Figure:
    """The smoothed loss by rate, and the suggestion."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(found.rates, found.losses, color=TRAIN)
        axes.axvline(found.suggestion, color=BAD, linestyle="--")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss, smoothed")
        axes.set_title(f"suggested: {found.suggestion:.2g}")
        axes.grid(alpha=0.2, color="#808080")
        return figure


def write_rate_test(directory: Path, found: RateTest) -> Path:
    """Write `learning_rate.csv` and `learning_rate.png`; return the picture's path.

    >>> import numpy as np, tempfile
    >>> found = RateTest(np.float32([1e-3, 1e-2]), np.float32([2.0, 1.0]), 1e-3)
    >>> with tempfile.TemporaryDirectory() as place:
    ...     write_rate_test(Path(place), found).name
    'learning_rate.png'
    """
    with (directory / "learning_rate.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["learning_rate", "loss"])
        table.writerows(zip(found.rates.tolist(), found.losses.tolist(), strict=True))
    save_png(rate_figure(found), path := directory / "learning_rate.png")
    return path
