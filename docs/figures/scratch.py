"""The figures of docs/learn/scratch.md: python docs/figures/scratch.py"""

import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import optax
from drawing import STYLE, WIDTH, write
from flax import nnx
from matplotlib.figure import Figure

import mnistjax as mj
from mnistjax.inference.several import spread
from mnistjax.report.figures import INK, TRAIN, VALIDATION

RESULTS = Path(__file__).parents[2] / "experiments" / "RESULTS.md"


def epochs_of(count: int) -> list[mj.EpochEnd]:
    """The small CNN on the digits, as the page trains it."""
    train, validation = mj.hold_out(mj.load_dataset("digits").train, fraction=0.1, seed=0)
    apply_fn, params = mj.functional(mj.CNN(rngs=nnx.Rngs(0)))
    tx = optax.adam(1e-3)
    events = mj.fit(
        mj.init_state(params, tx),
        train_step=mj.make_train_step(apply_fn=apply_fn, tx=tx),
        eval_step=mj.make_eval_step(apply_fn=apply_fn),
        train=train,
        validation=validation,
        epochs=count,
        batch_size=32,
        seed=0,
    )
    return [event for event in events if isinstance(event, mj.EpochEnd)]


def curves(epochs: list[mj.EpochEnd]) -> Figure:
    """Loss and accuracy of both parts, the loss on a scale of powers of ten."""
    x = [row.epoch for row in epochs]
    best = min(epochs, key=lambda row: row.validation.loss)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
        for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for part, label, color in (
                ("train", "training", TRAIN),
                ("validation", "validation", VALIDATION),
            ):
                y = [getattr(getattr(row, part), name) for row in epochs]
                axes.plot(x, y, ".-", color=color, label=label)
            ring: Any = {"mfc": "none", "mec": VALIDATION, "mew": 1.5, "ms": 11}
            axes.plot(best.epoch, getattr(best.validation, name), "o", **ring)
            axes.set(xlabel="epoch", title=name, yscale="log" if name == "loss" else "linear")
            axes.set_xticks([1, 5, 10, 15, 20])
            axes.grid(alpha=0.2, color="#808080")
        axes.legend(frameon=False, loc="lower right")
        return figure


def accuracies() -> dict[int, float]:
    """Those of `quick` by seed, from the table of the results."""
    rows = re.findall(r"(?<=\|) (\d+) \| (99\.\d\d) % \| [\d.]+ s ", RESULTS.read_text())
    return {int(seed): float(accuracy) for seed, accuracy in rows}


def seeds(found: dict[int, float]) -> Figure:
    """A dot a seed, stacked where they are equal; mean and interval."""
    values, counts = np.unique([*found.values()], return_counts=True)
    of = spread(np.array([*found.values()]))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
        axes = figure.subplots()
        axes.axvspan(of.low, of.high, color=TRAIN, alpha=0.25, lw=0)
        axes.axvline(of.mean, color=TRAIN, lw=1.5)
        for value, count in zip(values, counts, strict=True):
            axes.plot([value] * count, np.arange(count) + 1, "o", color=INK, ms=6)
        axes.set(xlabel="test accuracy, %", ylabel="seeds", ylim=(0.3, max(counts) + 1.2))
        told = {"color": INK, "ha": "left", "fontsize": 10}
        axes.text(of.high + 0.003, max(counts) + 0.7, f"mean {of.mean:.2f} %", **told)
        axes.set_xticks(np.arange(99.0, 99.21, 0.05))
        axes.set_yticks(range(1, max(counts) + 1))
        axes.spines["left"].set_visible(False)
        return figure


if __name__ == "__main__":
    write(curves(epochs_of(20)), "scratch-curves")
    found = accuracies()
    assert sorted(found) == [*range(20)], found
    write(seeds(found), "scratch-seeds")
