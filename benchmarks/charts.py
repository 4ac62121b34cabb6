"""Results as SVG bars, for a README on white and on black, the same bytes on every render."""

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.rows import Group, Measure, is_ours, measure, number

# GitHub shows an image file on its own white or near-black: each colour has to do on both.
OURS, PEER, LIMIT, INK = "#2E8BC9", "#9AA3AE", "#D55E00", "#767D86"
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
LOG_FROM = 30  # a linear bar of a thirtieth is a hair
BAR, HEAD, FOOT = 0.27, 0.32, 0.26  # inches


def bars(groups: Sequence[Group], *, width: float = 8.0) -> Figure | None:
    """A panel of horizontal bars for each group that measured something; `None` if none did.

    A bar is the median, its whisker p10 to p90. The dashed line is where the machine's matrix
    product would end: the limit of the same run.
    """
    shown = [(group, rows) for group in groups if (rows := _measured(group))]
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
            panel = _panel(figure.add_axes(box), rows, _limit(group))
            got = next(iter(rows.values()))
            unit = {"s": "seconds"}.get(got.unit, got.unit)
            better = "more is better" if got.more_is_better else "less is better"
            scale = ", log scale" if panel.get_xscale() == "log" else ""
            words = f"{group.name} · " * bool(group.name) + f"{unit}, {better}{scale}"
            panel.set_title(words, loc="left", fontsize=10)
            top -= height
        return figure


def headline(group: Group, *, title: str, subtitle: str) -> Figure | None:
    """The first screen's chart: ours and each kind of peer by its fastest way."""
    rows = _measured(Group(group.name, _one_of_each_kind(group), group.peaks))
    if not rows:
        return None
    tall, head = 0.36 * len(rows), 0.72
    height = head + tall + FOOT
    with matplotlib.rc_context(STYLE | {"font.size": 11}):
        figure = Figure(figsize=(8.0, height))
        left = _room(list(rows), 8.0, size=11)
        axes = figure.add_axes((left, FOOT / height, 0.84 - left, tall / height))
        _panel(axes, rows, _limit(group), notes=group.rows)
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


def _panel(
    axes: Axes,
    rows: dict[str, Measure],
    limit: tuple[float, float] | None,
    *,
    notes: dict[str, dict[str, Any]] | None = None,
) -> Axes:
    values = [got.value for got in rows.values()]
    ends = [max(got.value, got.p90) for got in rows.values()]
    right = max([*ends, 1.02 * limit[0]] if limit else ends)
    if max(values) > LOG_FROM * min(values):
        axes.set_xscale("log")
        axes.set_xlim(min(values) / 10, right)
    else:
        axes.set_xlim(0, right)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    if limit:
        _draw_limit(axes, *limit)

    def across(x: float) -> float:
        return axes.transAxes.inverted().transform(axes.transData.transform((x, 0)))[0]

    for place, ((name, got), end) in enumerate(zip(rows.items(), ends, strict=True)):
        axes.barh(place, got.value, height=0.62, color=OURS if is_ours(name) else PEER)
        if got.p90 > got.p10:
            axes.plot([got.p10, got.p90], [place, place], color=INK, lw=1, solid_capstyle="butt")
        times = (notes or {}).get(name, {}).get("ours_is")
        text = number(got.value) + (f" · ours is {times:.1f}×" if times else "")
        if limit and across(end) < across(limit[0]) < across(end) + 0.014 * len(text):
            end = limit[0]  # not through the figures
        weight = "bold" if is_ours(name) else "normal"
        style = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(text, (end, place), fontweight=weight, **style)
    axes.set_yticks(range(len(rows)), list(rows))
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if is_ours(label.get_text()) else "normal")
    axes.tick_params(length=0, labelbottom=False)
    axes.minorticks_off()
    axes.patch.set_visible(False)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set(color=INK, linewidth=0.8)
    return axes


def _measured(group: Group) -> dict[str, Measure]:
    """The group's measured rows of the commonest unit, the best first."""
    rows = {name: got for name, row in group.rows.items() if (got := measure(row))}
    if not rows:
        return {}
    units = [got.unit for got in rows.values()]
    unit = max(dict.fromkeys(units), key=units.count)
    rows = {name: got for name, got in rows.items() if got.unit == unit and got.value > 0}
    more = next(iter(rows.values())).more_is_better
    return dict(sorted(rows.items(), key=lambda item: item[1].value, reverse=more))


def _one_of_each_kind(group: Group) -> dict[str, dict[str, Any]]:
    kinds: dict[str, str] = {}
    for name in _measured(group):
        kind = next((k for k in ("PyTorch", "mnistjax") if name.startswith(k)), name)
        # Of ours the first row, which is called as peers are; of theirs the fastest.
        if kind == "mnistjax":
            name = next(name for name in group.rows if is_ours(name))
        kinds.setdefault(kind, name)
    return {name: group.rows[name] for name in kinds.values()}


def _limit(group: Group) -> tuple[float, float] | None:
    """Where a row would be at the matrix product's peak, and that peak in GFLOP/s."""
    peak = group.peaks.get("gemm_gflops")
    for name, row in group.rows.items():
        got = measure(row)
        if got and peak and got.unit == "images/s" and row.get("gflops") and is_ours(name):
            return got.value * peak / row["gflops"], peak
    return None


def _draw_limit(axes: Axes, limit: float, peak: float) -> None:
    axes.axvline(limit, color=LIMIT, lw=1.2, ls=(0, (4, 3)), zorder=0)
    style = {"xytext": (0, -4), "textcoords": "offset points", "fontsize": 8}
    place = limit, axes.get_ylim()[0]
    text = f"matrix product, {number(peak)} GFLOP/s"
    axes.annotate(text, place, color=LIMIT, ha="center", va="top", **style)
