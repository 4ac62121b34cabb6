"""From the bytes of a picture to what a network sees, and from arrays to pictures for a page."""

import base64
import io

import numpy as np
import PIL.Image
from jaxtyping import Shaped, UInt8

from mnistjax.inference.images import ImageForm, as_batch

TILE = 28  # pixels of a feature map's side on the page, at most
COLUMNS, MOST_TILES = 8, 64


def seen_in(body: bytes, form: ImageForm) -> UInt8[np.ndarray, "n height width channels"]:
    """The picture, or each of its characters from left to right, as `Classifier.see` has them.

    Nothing is written to disk. Raises `DataError` for what is no picture.
    """
    return as_batch(body, form, segment=form.ink_side is not None)


def data_uri(image: UInt8[np.ndarray, "height width channels"]) -> str:
    """A PNG that a page shows without asking for it: grey, grey and alpha, RGB or RGBA.

    >>> data_uri(np.zeros((2, 2, 1), np.uint8))[:30]
    'data:image/png;base64,iVBORw0K'
    """
    file = io.BytesIO()
    image = image[..., 0] if image.shape[2] == 1 else image
    PIL.Image.fromarray(image).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def tiles(maps: Shaped[np.ndarray, "height width channels"]) -> UInt8[np.ndarray, "h w 2"]:
    """The first 64 of a layer's maps side by side, in grey, with clear lines between.

    All to one scale: what is black here is 0, what is white the most that this layer says. Small
    ones are enlarged.

    >>> tiles(np.ones((5, 5, 32))).shape
    (103, 207, 2)
    """
    maps = np.clip(maps[..., :MOST_TILES], 0, None)
    most = max(float(np.percentile(maps, 99.5)), 1e-6)
    grey = np.rint(np.clip(maps / most, 0, 1) * 255).astype(np.uint8)
    grey = grey.repeat(max(1, TILE // grey.shape[0]), 0).repeat(max(1, TILE // grey.shape[1]), 1)
    side = min(TILE, grey.shape[0])
    count = grey.shape[2]
    rows = -(-count // COLUMNS)
    sheet = np.zeros((rows * (side + 1), min(count, COLUMNS) * (side + 1), 2), np.uint8)
    for n in range(count):
        one = PIL.Image.fromarray(np.ascontiguousarray(grey[..., n]))
        if one.size != (side, side):
            one = one.resize((side, side), PIL.Image.Resampling.BOX)
        top, left = (side + 1) * (n // COLUMNS), (side + 1) * (n % COLUMNS)
        sheet[top : top + side, left : left + side, 0] = np.asarray(one)
        sheet[top : top + side, left : left + side, 1] = 255
    return sheet[:-1, :-1]
