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
BAR, HEAD, FOOT = 0.27, 0.5, 0.12  # inches


def bars(groups: Sequence[Group], *, width: float = 8.0) -> Figure | None:
    """A panel of horizontal bars for each group that measured something; `None` if none did.

    A bar is the median, its whisker p10 to p90. The dashed line is where the machine's matrix
    product would end: the limit of the same run.
    """
    shown = [(group, rows) for group in groups if (rows := _measured(group))]
    if not shown:
        return None
    heights = [HEAD + BAR * len(rows) for _, rows in shown]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, sum(heights) + FOOT))
        top = sum(heights)
        for (group, rows), height in zip(shown, heights, strict=True):
            panel = _panel(figure, rows, bottom=top - height, total=sum(heights) + FOOT)
            got = next(iter(rows.values()))
            better = "more is better" if got.more_is_better else "less is better"
            scale = ", log scale" if panel.get_xscale() == "log" else ""
            words = f"{group.name}  {got.unit}, {better}{scale}".strip()
            panel.set_title(words, loc="left", fontsize=10)
            if limit := _limit(group):
                _draw_limit(panel, limit, group.peaks["gemm_gflops"])
            top -= height
        return figure


def headline(group: Group, *, title: str, subtitle: str) -> Figure | None:
    """The first screen's chart: ours and each kind of peer by its fastest way."""
    rows = _measured(Group(group.name, _one_of_each_kind(group), group.peaks))
    if not rows:
        return None
    height = 0.75 + 0.36 * len(rows)
    with matplotlib.rc_context(STYLE | {"font.size": 11}):
        figure = Figure(figsize=(8.0, height + FOOT))
        panel = _panel(figure, rows, bottom=FOOT, total=height + FOOT, head=0.75, notes=group.rows)
        for y, text, size, weight in ((0.28, title, 14, "bold"), (0.5, subtitle, 9, "normal")):
            place = 0.02, 1 - y / (height + FOOT)
            figure.text(*place, text, ha="left", va="baseline", fontsize=size, fontweight=weight)
        if limit := _limit(group):
            _draw_limit(panel, limit, group.peaks["gemm_gflops"])
        return figure


def to_svg(figure: Figure) -> str:
    """`figure` as SVG without date, version or anything else that a second render would change."""
    file = io.StringIO()
    with matplotlib.rc_context(STYLE):
        metadata = {"Date": None, "Creator": None}
        figure.savefig(file, format="svg", transparent=True, metadata=metadata)
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", file.getvalue(), flags=re.DOTALL)
    return svg.replace("'sans-serif'", FONT).replace("sans-serif;", f"{FONT};")


def _panel(
    figure: Figure,
    rows: dict[str, Measure],
    *,
    bottom: float,
    total: float,
    head: float = HEAD,
    notes: dict[str, dict[str, Any]] | None = None,
) -> Axes:
    height = (0.36 if notes else BAR) * len(rows)
    left, right = 0.3, 0.84  # room for the names, and for the figures beside the bars
    axes = figure.add_axes((left, bottom / total, right - left, height / total))
    values = [got.value for got in rows.values()]
    log = max(values) > LOG_FROM * min(values)
    for place, (name, got) in enumerate(rows.items()):
        axes.barh(place, got.value, height=0.62, color=OURS if is_ours(name) else PEER)
        if got.p90 > got.p10:
            axes.plot([got.p10, got.p90], [place, place], color=INK, lw=1, solid_capstyle="butt")
        times = (notes or {}).get(name, {}).get("ours_is")
        text = number(got.value) + (f" · ours is {times:.1f}×" if times else "")
        weight = "bold" if is_ours(name) else "normal"
        end = max(got.value, got.p90)
        style = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(text, (end, place), fontweight=weight, **style)
    axes.set_yticks(range(len(rows)), list(rows))
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if is_ours(label.get_text()) else "normal")
    axes.invert_yaxis()
    axes.set_ylim(len(rows) - 0.5, -0.5)
    if log:
        axes.set_xscale("log")
        axes.set_xlim(min(values) / 10, max(got.p90 for got in rows.values()))
    else:
        axes.set_xlim(0, max(max(values), *(got.p90 for got in rows.values())))
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


def _limit(group: Group) -> float | None:
    """The value at which a row would be at the matrix product's peak."""
    peak = group.peaks.get("gemm_gflops")
    for name, row in group.rows.items():
        got = measure(row)
        if got and peak and got.unit == "images/s" and row.get("gflops") and is_ours(name):
            return got.value * peak / row["gflops"]
    return None


def _draw_limit(axes: Axes, limit: float, peak: float) -> None:
    axes.set_xlim(right=max(1.02 * limit, axes.get_xlim()[1]))
    axes.axvline(limit, color=LIMIT, lw=1.2, ls=(0, (4, 3)), zorder=0)
    style = {"xytext": (0, 4), "textcoords": "offset points", "ha": "center", "fontsize": 8}
    top = axes.get_ylim()[1]
    axes.annotate(f"matrix product, {number(peak)} GFLOP/s", (limit, top), color=LIMIT, **style)
