"""Names in any script, drawn with the fonts there are."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

USUAL = "DejaVu Sans"  # comes with matplotlib
MOST = 3  # further fonts for one figure


class Drawn(NamedTuple):
    """Names as a figure can show them, the fonts that takes, and which were replaced."""

    names: tuple[str, ...]
    families: list[str]
    replaced: tuple[int, ...]
    """Numbers of classes that no font here can write: they are `class 3` in figures."""


def drawable(names: Sequence[str]) -> Drawn:
    """`names` with fonts that have their characters; what none has is shown by its number.

    >>> drawable(["cat", "café"])
    Drawn(names=('cat', 'café'), families=['DejaVu Sans'], replaced=())
    """
    wanted = {ord(c) for name in names for c in name}
    missing, families = wanted - _characters(font_manager.findfont(USUAL)), [USUAL]
    while missing and len(families) <= MOST:
        family, path = max(_others(), key=lambda font: len(missing & _characters(font[1])))
        if not missing & _characters(path):
            break
        missing -= _characters(path)
        families.append(family)
    replaced = tuple(i for i, name in enumerate(names) if missing & set(map(ord, name)))
    shown = tuple(f"class {i}" if i in replaced else name for i, name in enumerate(names))
    return Drawn(shown, families, replaced)


@cache
def _characters(path: str) -> frozenset[int]:
    """What a font can draw; nothing if matplotlib cannot use it, as with coloured emoji."""
    try:
        font = FT2Font(path)
        font.set_text("", 0.0)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()


@cache
def _others() -> list[tuple[str, str]]:
    """All but the last resort, which has a box for every character."""
    fonts = {font.name: font.fname for font in font_manager.fontManager.ttflist}
    return sorted((name, path) for name, path in fonts.items() if "Last Resort" not in name)
