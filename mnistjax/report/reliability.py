"""The reliability diagram: are answers as often right as they are sure?"""

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from mnistjax.report.figures import BAD, INK, STYLE, TRAIN


def reliability_figure(
    confidence: Float[np.ndarray, " bins"],
    accuracy: Float[np.ndarray, " bins"],
    count: Int[np.ndarray, " bins"],
) -> Figure:
    """Bars of the share right in bins of equal width, NaN where empty; below, how many there are.

    On the diagonal probabilities are what they say; the line from a bar to it is what is amiss.
    """
    bins = len(count)
    middle = (np.arange(bins) + 0.5) / bins
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5, 5.6), layout="constrained")
        top, low = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        top.plot([0, 1], [0, 1], "--", color=INK, lw=1, label="what it says")
        top.bar(middle, np.nan_to_num(accuracy), 0.9 / bins, color=TRAIN, label="what is right")
        top.vlines(confidence, accuracy, confidence, color=BAD, lw=2, label="the difference")
        top.set(ylabel="share right", xlim=(0, 1), ylim=(0, 1))
        top.legend(frameon=False, loc="upper left")
        low.bar(middle, count, 0.9 / bins, color=TRAIN)
        low.set(xlabel="probability of the answer", ylabel="images", yscale="symlog")
        low.set_ylim(0, max(1, count.max()) * 2)
        return figure
