"""How the figures of docs/learn are drawn: once, and written for light and for dark pages."""

import re
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mnistjax.report.figures import BAD, STYLE, to_svg

IMAGES = Path(__file__).parents[1] / "images" / "learn"
INKS = {"light": "#1b1f24", "dark": "#e6e9ed"}  # as in mnistjax/report/style.css
WIDTH = 5.2  # inches: on a phone of 390 pixels text of 10 points is still 9 pixels high

__all__ = ["IMAGES", "STYLE", "WIDTH", "mark", "numbers", "picture", "write"]


def write(figure: Figure, name: str) -> None:
    """`figure` as name-light.svg and name-dark.svg, which differ in the colour of the text."""
    svg = to_svg(figure, salt=name)
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()
    svg = svg.replace("<svg", f'<svg width="{width}pt" height="{height}pt"', 1)
    IMAGES.mkdir(parents=True, exist_ok=True)
    for theme, ink in INKS.items():
        path = IMAGES / f"{name}-{theme}.svg"
        path.write_text(svg.replace("currentColor", ink))
        print(f"{path.relative_to(IMAGES.parents[2])}: {path.stat().st_size / 1024:.0f} KiB")


def picture(axes: Axes, image, title: str = "", **how) -> None:
    """`image` [height, width] without axes; its pixels stay squares."""
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    axes.imshow(image, **{"cmap": "gray", "interpolation": "nearest"} | how)


def numbers(axes: Axes, table, title: str, *, form: str = "{:.1f}", **how) -> None:
    """A picture of a small `table` with its numbers in it."""
    picture(axes, table, title, **how)
    for (row, column), value in _each(table):
        color = axes.images[0].cmap(axes.images[0].norm(value))
        dark = 0.3 * color[0] + 0.6 * color[1] + 0.1 * color[2] < 0.5
        text = form.format(value).replace("-", "−")
        ink = "#ffffff" if dark else "#000000"
        axes.text(column, row, text, ha="center", va="center", color=ink)


def mark(axes: Axes, row: int, column: int, size: int = 1) -> None:
    """A frame around `size` x `size` pixels."""
    corner = column - 0.5, row - 0.5
    axes.add_patch(Rectangle(corner, size, size, fill=False, ec=BAD, lw=2))


def _each(table):
    return (((i, j), float(table[i][j])) for i in range(len(table)) for j in range(len(table[0])))
