"""Results as SVG bars, for a README on white and on black, the same bytes on every render."""

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.tables.panel import INK, draw_panel, limit_of, measured
from benchmarks.tables.rows import Group, Median, Rows, is_ours

FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "mnistjax",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
BAR, HEAD, FOOT = 0.27, 0.32, 0.26  # inches


def bars(groups: Sequence[Group], *, width: float = 8.0) -> Figure | None:
    """A panel of horizontal bars for each group that measured something; `None` if none did.

    A bar is the median, its whisker p10 to p90. The dashed line is where the machine's matrix
    product would end: the limit of the same run.
    """
    shown = [(group, rows) for group in groups if (rows := measured(group))]
    if not shown:
        return None
    heights = [HEAD + BAR * len(rows) + FOOT for _, rows in shown]
    left = _room([name for _, rows in shown for name in rows], width)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, sum(heights)))
        top = sum(heights)
        for (group, rows), height in zip(shown, heights, strict=True):
            bottom, tall = top - height + FOOT, BAR * len(rows)
            box = left, bottom / sum(heights), 0.84 - left, tall / sum(heights)
            axes = figure.add_axes(box)
            draw_panel(axes, rows, limit_of(group))
            axes.set_title(_words(group.name, rows, axes), loc="left", fontsize=10)
            top -= height
        return figure


def headline(group: Group, *, title: str, subtitle: str) -> Figure | None:
    """The first screen's chart: ours and each kind of peer by its fastest way."""
    rows = measured(Group(group.name, _one_of_each_kind(group), group.peaks))
    if not rows:
        return None
    tall, head = 0.36 * len(rows), 0.72
    height = head + tall + FOOT
    with matplotlib.rc_context(STYLE | {"font.size": 11}):
        figure = Figure(figsize=(8.0, height))
        left = _room(list(rows), 8.0, size=11)
        axes = figure.add_axes((left, FOOT / height, 0.84 - left, tall / height))
        draw_panel(axes, rows, limit_of(group), notes=group.rows)
        for y, text, size, weight in ((0.28, title, 14, "bold"), (0.5, subtitle, 9, "normal")):
            place = 0.02, 1 - y / height
            figure.text(*place, text, ha="left", va="baseline", fontsize=size, fontweight=weight)
        return figure


def to_svg(figure: Figure) -> str:
    """`figure` as SVG without date, version or anything else that a second render would change."""
    file = io.StringIO()
    with matplotlib.rc_context(STYLE):
        metadata = {"Date": None, "Creator": None}
        figure.savefig(file, format="svg", transparent=True, metadata=metadata)
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", file.getvalue(), flags=re.DOTALL)
    return svg.replace("'sans-serif'", FONT).replace("sans-serif;", f"{FONT};")


def _room(names: list[str], width: float, *, size: int = 10) -> float:
    """The share of `width` inches that the longest name takes."""
    return (0.0092 * size * max(map(len, names)) + 0.2) / width


def _words(name: str, rows: dict[str, Median], axes: Axes) -> str:
    """What stands above a panel: the group, its unit, and how to read it."""
    got = next(iter(rows.values()))
    unit = {"s": "seconds"}.get(got.unit, got.unit)
    better = "more is better" if got.more_is_better else "less is better"
    scale = ", log scale" if axes.get_xscale() == "log" else ""
    return f"{name} · " * bool(name) + f"{unit}, {better}{scale}"


def _one_of_each_kind(group: Group) -> Rows:
    kinds: dict[str, str] = {}
    for name in measured(group):
        kind = next((k for k in ("PyTorch", "mnistjax") if name.startswith(k)), name)
        # Of ours the first row, which is called as peers are; of theirs the fastest.
        if kind == "mnistjax":
            name = next(name for name in group.rows if is_ours(name))
        kinds.setdefault(kind, name)
    return {name: group.rows[name] for name in kinds.values()}
