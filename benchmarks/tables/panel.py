"""One panel of a chart: a group's bars, their figures, and the machine's limit."""

from typing import Any

from matplotlib.axes import Axes

from benchmarks.tables.rows import Group, Median, Rows, is_ours, median_of, number

# GitHub shows an image file on its own white or near-black: each colour has to do on both.
OURS, PEER, LIMIT, INK = "#2E8BC9", "#9AA3AE", "#D55E00", "#767D86"
LOG_FROM = 30  # a linear bar of a thirtieth is a hair
FAR = 5  # a limit so many times the best is told, not drawn: bars would be hairs beside it


def measured(group: Group) -> dict[str, Median]:
    """The group's measured rows of the commonest unit, the best first."""
    rows = {name: got for name, row in group.rows.items() if (got := median_of(row))}
    if not rows:
        return {}
    units = [got.unit for got in rows.values()]
    unit = max(dict.fromkeys(units), key=units.count)
    rows = {name: got for name, got in rows.items() if got.unit == unit and got.value > 0}
    more = next(iter(rows.values())).more_is_better
    return dict(sorted(rows.items(), key=lambda item: item[1].value, reverse=more))


def limit_of(group: Group) -> tuple[float, float] | None:
    """Where a row would be at the matrix product's peak, and that peak in GFLOP/s."""
    peak = group.peaks.get("gemm_gflops")
    for name, row in group.rows.items():
        got = median_of(row)
        if got and peak and got.unit == "images/s" and row.get("gflops") and is_ours(name):
            return got.value * peak / row["gflops"], peak
    return None


def draw_panel(
    axes: Axes,
    rows: dict[str, Median],
    limit: tuple[float, float] | None,
    *,
    notes: Rows | None = None,
) -> None:
    """A bar a row, p10 to p90 as its whisker; `notes` are rows that say how many times ours is."""
    ends = [max(got.value, got.p90) for got in rows.values()]
    if limit and limit[0] > FAR * max(ends):
        _tell_limit(axes, limit[0] / max(got.value for got in rows.values()))
        limit = None
    _scale(axes, rows, max([*ends, 1.02 * limit[0]] if limit else ends))
    if limit:
        _draw_limit(axes, *limit)
    for place, ((name, got), end) in enumerate(zip(rows.items(), ends, strict=True)):
        axes.barh(place, got.value, height=0.62, color=OURS if is_ours(name) else PEER)
        if got.p90 > got.p10:
            axes.plot([got.p10, got.p90], [place, place], color=INK, lw=1, solid_capstyle="butt")
        times = (notes or {}).get(name, {}).get("ours_is")
        text = number(got.value) + (f" · ours is {times:.1f}×" if times else "")
        if limit and _would_cross(axes, limit[0], end, text):
            end = limit[0]
        style: Any = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(text, (end, place), fontweight=_weight(name), **style)
    _frame(axes, list(rows))


def _scale(axes: Axes, rows: dict[str, Median], right: float) -> None:
    values = [got.value for got in rows.values()]
    if max(values) > LOG_FROM * min(values):
        axes.set_xscale("log")
        axes.set_xlim(min(values) / 10, right)
    else:
        axes.set_xlim(0, right)
    axes.set_ylim(len(rows) - 0.5, -0.5)


def _draw_limit(axes: Axes, limit: float, peak: float) -> None:
    axes.axvline(limit, color=LIMIT, lw=1.2, ls=(0, (4, 3)), zorder=0)
    style: Any = {"xytext": (0, -4), "textcoords": "offset points", "fontsize": 8}
    place = limit, axes.get_ylim()[0]
    text = f"matrix product, {number(peak)} GFLOP/s"
    axes.annotate(text, place, color=LIMIT, ha="center", va="top", **style)


def _tell_limit(axes: Axes, times: float) -> None:
    style: Any = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 8}
    text = f"a matrix product does {number(times)} times the best one's work"
    axes.annotate(text, (1, 0), xytext=(0, -4), color=LIMIT, ha="right", va="top", **style)


def _would_cross(axes: Axes, limit: float, end: float, text: str) -> bool:
    """Whether the limit's line would go through figures that begin at `end`."""

    def across(x: float) -> float:
        return axes.transAxes.inverted().transform(axes.transData.transform((x, 0)))[0]

    return across(end) < across(limit) < across(end) + 0.014 * len(text)


def _frame(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    for label in axes.get_yticklabels():
        label.set_fontweight(_weight(label.get_text()))
    axes.tick_params(length=0, labelbottom=False)
    axes.minorticks_off()
    axes.patch.set_visible(False)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set(color=INK, linewidth=0.8)


def _weight(name: str) -> str:
    return "bold" if is_ours(name) else "normal"
