"""A drawn or photographed character in the form of MNIST: light on black, scaled, centred by mass.

After LeCun, Bottou, Bengio and Haffner 1998 (yann.lecun.com/exdb/mnist): the character's box is
scaled into 20x20 pixels, grey by anti-aliasing, and its centre of mass put into the middle of
28x28. Before that it has to be found: on paper under a lamp, thin or thick, dark or light.
"""

from typing import NamedTuple, cast

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from mnistjax.data.ink import ink_box, stroke_width
from mnistjax.errors import DataError

LEAST_CONTRAST = 24  # levels of 255 between ink and ground: less is an empty picture's noise
EIGHT = np.ones((3, 3))  # corners touch, too
SPECK = 0.02  # of the largest character's area: less is dirt
STROKE = 2.0  # pixels of a stroke after scaling, at least: MNIST's are 2 to 4


class Drawing(NamedTuple):
    """Every step from a picture to what the network sees, arrays of uint8."""

    grey: UInt8[np.ndarray, "height width"]
    ink: UInt8[np.ndarray, "height width"]
    """Light on black, the ground taken away."""
    characters: list[UInt8[np.ndarray, "height2 width2"]]
    """Each cut out, from left to right."""
    seen: list[UInt8[np.ndarray, "size size"]]
    """Each as the network sees it."""


def drawing(
    grey: UInt8[np.ndarray, "height width"],
    *,
    size: int,
    side: int,
    stroke: float = STROKE,
    grain: int | None = None,
) -> Drawing:
    """The characters in `grey`, each in a square of `size` with its longer side scaled to `side`.

    `stroke` and `grain` as `in_form` takes them. Raises `DataError` if nothing is drawn there.
    """
    grey = unpadded(grey)
    ink = ink_of(grey)
    characters = separate(ink)
    seen = [in_form(one, size, side, stroke=stroke, grain=grain) for one in characters]
    return Drawing(grey, ink, characters, seen)


def unpadded(grey: UInt8[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height2 width2"]:
    """Without the even bands that filled a photo up to a square: their edges look like ink.

    A band is told from the ground of a drawing by where it ends: there most of a photo differs.

    >>> unpadded(np.pad(np.arange(1, 61, dtype=np.uint8).reshape(6, 10), ((2, 2), (0, 0)))).shape
    (6, 10)
    """
    top, bottom = _band(grey), _band(grey[::-1])
    left, right = _band(grey.T), _band(grey.T[::-1])
    height, width = grey.shape
    return grey[top : height - bottom, left : width - right]


def _band(lines: UInt8[np.ndarray, "lines pixels"]) -> int:
    """How many of the first lines are one level, where most of the next is not, at its ends too."""
    same = lines == lines[0, 0]
    end = int(np.argmin(same.all(axis=1)))
    next_, some = same[end], max(1, lines.shape[1] // 20)
    ends = next_, next_[:some], next_[-some:]
    return end if all(part.mean() < 0.5 for part in ends) else 0


def ink_of(grey: UInt8[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
    """How much each pixel differs from the ground around it, 255 at most.

    The ground is what the rim shows, dark or light; it may be brighter here than there, as under a
    lamp. Raises `DataError` for a picture without contrast.
    """
    smooth = ndimage.gaussian_filter(grey.astype(np.float32), max(grey.shape) / 280)
    rim = np.concatenate([smooth[0], smooth[-1], smooth[:, 0], smooth[:, -1]])
    is_light = np.median(rim) < (smooth.min() + smooth.max()) / 2
    light = smooth if is_light else 255 - smooth
    ink = np.clip(light - _ground(light), 0, None)
    top = np.percentile(ink, 99.8)
    if top < LEAST_CONTRAST:
        fix = "pass one with a character on an even ground"
        raise DataError("the picture", "shows no character", fix=fix)
    ink = np.clip(ink * (255 / top), 0, 255)
    return np.where(ink > otsu(ink) / 2, ink, 0).astype(np.uint8)


def _ground(image: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """The ground under light ink: what is left without anything narrower than a quarter of it."""
    reach = max(3, max(image.shape) // 4)
    small = image[:: max(1, reach // 16), :: max(1, reach // 16)]
    low = ndimage.grey_opening(small, size=min(16, *small.shape) + 3, mode="nearest")
    low = np.asarray(ndimage.gaussian_filter(low, 4, mode="nearest"))
    whole = PIL.Image.fromarray(low).resize(image.shape[::-1], PIL.Image.Resampling.BILINEAR)
    return np.asarray(whole)


def otsu(values: Float[np.ndarray, "..."]) -> float:
    """The threshold that parts `values` of 0..255 best in two (Otsu 1979).

    >>> 10 < otsu(np.array([10.0, 10, 10, 200, 200])) < 200
    True
    """
    counts, middle = (
        np.bincount(values.astype(np.uint8).ravel(), minlength=256),
        np.arange(256) + 0.5,
    )
    below, above = np.cumsum(counts), counts.sum() - np.cumsum(counts)
    sums = np.cumsum(counts * middle)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = sums / below - (sums[-1] - sums) / above
        between = np.nan_to_num(below * above * apart**2)
    best = np.flatnonzero(between == between.max())
    return float(middle[best].mean())


def separate(ink: UInt8[np.ndarray, "height width"]) -> list[UInt8[np.ndarray, "h w"]]:
    """The characters in `ink`, cut out, from left to right.

    Strokes that touch belong together, and those that lie over one another; what is far smaller
    than the largest is dirt.
    """
    lit = ink > otsu(ink.astype(np.float32)) / 2
    parts, _ = cast("tuple[np.ndarray, int]", ndimage.label(_grown(lit), EIGHT))
    labels = parts * lit
    areas = np.bincount(labels.ravel())[1:]
    kept = 1 + np.flatnonzero(areas > SPECK * areas.max())
    boxes = ndimage.find_objects(labels)
    groups: list[list[int]] = []
    for n in sorted(map(int, kept), key=lambda n: boxes[n - 1][1].start):
        if groups and _over(boxes, groups[-1], n):
            groups[-1].append(n)
        else:
            groups.append([n])
    return [_cut(ink, labels, boxes, group) for group in groups]


def _over(boxes: list, group: list[int], n: int) -> bool:
    """Whether part `n` lies over or under the group by a third of its width."""
    left = min(boxes[m - 1][1].start for m in group)
    right = max(boxes[m - 1][1].stop for m in group)
    columns = boxes[n - 1][1]
    common = min(right, columns.stop) - max(left, columns.start)
    return common > min(right - left, columns.stop - columns.start) / 3


def _cut(ink: np.ndarray, labels: np.ndarray, boxes: list, group: list[int]) -> np.ndarray:
    """What is in `ink` of the parts in `group`, with its grey edge of two pixels."""
    spans = [[boxes[n - 1][axis] for n in group] for axis in (0, 1)]
    rows, columns = (
        slice(max(0, min(s.start for s in of) - 2), max(s.stop for s in of) + 2) for of in spans
    )
    around = _grown(_grown(np.isin(labels[rows, columns], group)))
    alone = np.where(around, ink[rows, columns], 0)
    top, bottom, left, right = ink_box(alone, above=0) or (0, 1, 0, 1)
    return alone[top:bottom, left:right]


def _grown(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """With the four neighbours of each: SciPy's `binary_dilation`, which takes 0.8 ms, in 0.05."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def in_form(
    character: UInt8[np.ndarray, "height width"],
    size: int,
    side: int,
    *,
    stroke: float = STROKE,
    grain: int | None = None,
) -> UInt8[np.ndarray, "{size} {size}"]:
    """`character` scaled so that its longer side is `side`, its mass in the middle of `size`.

    Strokes are at least `stroke` wide then. Of a set that was enlarged from squares of `grain`, it
    is made so large first and enlarged likewise: of 180 drawn digits a network of scikit-learn's
    8x8 digits reads 164 so, 119 without.
    """
    if grain is not None and grain < size:
        part = grain / size
        small = in_form(character, grain, round(side * part), stroke=stroke * part)
        by = PIL.Image.Resampling.BICUBIC
        return np.asarray(PIL.Image.fromarray(small).resize((size, size), by))
    scale = side / max(character.shape)
    thick = _thick_enough(character, stroke / scale)
    scale = side / max(thick.shape)
    height, width = (max(1, round(n * scale)) for n in thick.shape)
    by = PIL.Image.Resampling.BOX if scale < 0.5 else PIL.Image.Resampling.BICUBIC
    small = np.asarray(PIL.Image.fromarray(thick).resize((width, height), by), np.float32)
    small = np.clip(small * (255 / max(1.0, np.percentile(small, 99))), 0, 255)
    square = np.zeros((3 * size, 3 * size), np.float32)
    square[size : size + height, size : size + width] = small
    rows, columns = np.rint(np.array(ndimage.center_of_mass(square))).astype(int)
    if side > 0.8 * size:  # there is no room to move: by the box instead
        rows, columns = size + height // 2, size + width // 2
    top, left = rows - size // 2, columns - size // 2
    return square[top : top + size, left : left + size].astype(np.uint8)


def _thick_enough(character: np.ndarray, least: float) -> np.ndarray:
    """With strokes of at least `least` pixels."""
    stroke = stroke_width(character)
    r = int(round((least - stroke) / 2))
    if r < 1 or not stroke:
        return character
    y, x = np.ogrid[-r : r + 1, -r : r + 1]
    return ndimage.grey_dilation(np.pad(character, r), footprint=x**2 + y**2 <= r**2)
