"""Where the ink of a character is: light on a dark ground, as MNIST has it."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8
from scipy import ndimage

from mnistjax.data.lazy_images import LazyImages

SAMPLE = 200  # images looked at
DARK = 32  # of 255: what counts as ground at a rim


class Ink(NamedTuple):
    """What is usual in a set, in pixels: the longer side of what is drawn, the strokes' width."""

    side: int
    stroke: float


def usual_ink(images: Shaped[np.ndarray, "n height width channels"] | LazyImages) -> Ink | None:
    """What `images` have for ink; None if nothing is drawn in them.

    Drawn is: one channel, and a ground that is dark around. MNIST's characters
    were scaled to 20 of 28 pixels (LeCun et al. 1998, yann.lecun.com/exdb/mnist), those of other
    sets fill their squares.

    >>> image = np.zeros((1, 28, 28, 1), np.uint8)
    >>> image[0, 4:24, 10:14] = 255
    >>> usual_ink(image), usual_ink(255 - image)
    (Ink(side=20, stroke=4.0), None)
    """
    sample = _sample(images)
    sides = [max(box[1] - box[0], box[3] - box[2]) for box in map(ink_box, sample) if box]
    widths = [stroke_width(one) for one in sample if one.any()]
    return Ink(int(np.median(sides)), float(np.median(widths))) if sides else None


def stroke_width(image: UInt8[np.ndarray, "height width"]) -> float:
    """How wide the widest strokes are: twice the distance from their middle to the ground."""
    inside = np.asarray(ndimage.distance_transform_edt(np.pad(image > 127, 1)))
    return 2 * float(np.percentile(inside[inside > 0], 90)) if inside.any() else 0.0


def _sample(images: Any) -> UInt8[np.ndarray, "n height width"]:
    """Some of the images, if they are drawn on a dark ground; else none."""
    none = np.empty((0, *images.shape[1:3]), np.uint8)
    if images.shape[-1] != 1 or images.dtype != np.uint8:
        return none
    rows = np.linspace(0, len(images) - 1, min(SAMPLE, len(images))).astype(int)
    sample = np.asarray(images[np.unique(rows)][..., 0])
    rims = np.concatenate([sample[:, 0], sample[:, -1], sample[:, :, 0], sample[:, :, -1]], axis=1)
    return sample if np.median(rims) <= DARK else none


def ink_box(
    image: UInt8[np.ndarray, "height width"], *, above: int = DARK
) -> tuple[int, int, int, int] | None:
    """Top, bottom, left and right of what is lighter than `above`; None if nothing is.

    >>> ink_box(np.pad(np.full((2, 3), 255, np.uint8), 1))
    (1, 3, 1, 4)
    """
    lit = image > above
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    if not len(rows):
        return None
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
