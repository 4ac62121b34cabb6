"""Whatever holds an image, as the uint8 square that a network was trained on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from jaxtyping import Shaped, UInt8

from mnistjax.data.picture import Fit, fit_picture, read_picture, to_grey
from mnistjax.errors import DataError, UsageError
from mnistjax.inference.drawn import STROKE, Drawing, drawing

Image = Path | str | bytes | PIL.Image.Image | Shaped[np.ndarray, "..."]


# Thin strokes stay, and noise is averaged away.
DRAWN = 280
THINNER = 0.8  # than the usual stroke of training: thinner ones are thickened


class ImageForm(NamedTuple):
    """What a network's images are: their shape, how photos are fitted, how characters lie."""

    shape: tuple[int, int, int]
    fit: Fit
    ink_side: int | None
    """Of sets of light characters on black: their usual longer side (`data.ink`)."""
    stroke: float = STROKE
    """How wide strokes have to be at least."""
    grain: int | None = None
    """The side of the squares that the images were enlarged from."""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "ImageForm":
        """From what model.safetensors says of its images."""
        usual = facts.get("ink_stroke")
        stroke = STROKE if usual is None else THINNER * usual
        side, grain = facts["ink_side"], facts.get("enlarged_from")
        return cls(tuple(facts["shape"]), facts["fit"], side, stroke, grain)


def as_batch(
    images: Image | Sequence[Image], form: ImageForm, *, segment: bool = False
) -> UInt8[np.ndarray, "n height width channels"]:
    """One image or several as the network sees them; raise `DataError` for what is no image.

    With `segment` each character of a drawing is one, from left to right.

    >>> form = ImageForm((28, 28, 1), "crop", 20)
    >>> as_batch(np.zeros((5, 28, 28), np.uint8), form).shape
    (5, 28, 28, 1)
    """
    if segment and form.ink_side is None:
        why = "is for networks that saw characters on black, and this one sees whole pictures"
        raise UsageError("`segment=True`", why, fix="drop `segment=True`")
    each = [one for image in _listed(images) for one in _one_by_one(image)]
    if not each:
        raise DataError("`images`", "there are none", fix="pass at least one")
    return np.concatenate([_seen(image, form, segment=segment) for image in each])


def _seen(image: Image, form: ImageForm, *, segment: bool) -> UInt8[np.ndarray, "n h w c"]:
    if isinstance(image, np.ndarray) and _as_trained(image, form):
        return image.reshape(1, *form.shape)
    if form.ink_side is None:
        return as_photo(image, form)[None]
    seen = as_drawing(image, form).seen
    if len(seen) > 1 and not segment:
        what = str(image) if isinstance(image, Path | str) else "the picture"
        fix = "pass `segment=True` to have each read"
        raise DataError(what, f"shows {len(seen)} characters", fix=fix)
    return np.stack(seen)[..., None]


def as_photo(image: Image, form: ImageForm) -> UInt8[np.ndarray, "height width channels"]:
    """A picture as training saw those of its folders."""
    side = max(form.shape[:2])
    pixels = _pixels(image, side, form.fit)
    pixels = pixels if form.shape[2] == 3 else to_grey(pixels[None])[0]
    if pixels.shape != form.shape:
        shape = "x".join(map(str, form.shape))
        what = f"a network of {shape}"
        raise DataError(what, "pictures become squares", fix=f"pass arrays of {shape}")
    return pixels


def as_drawing(image: Image, form: ImageForm) -> Drawing:
    """A picture of characters with every step that brings them to the form of training."""
    assert form.ink_side is not None
    pixels = _pixels(image, DRAWN, "pad")
    return drawing(
        to_grey(pixels[None])[0, ..., 0],
        size=form.shape[0],
        side=form.ink_side,
        stroke=form.stroke,
        grain=form.grain,
    )


def _pixels(image: Image, size: int, fit: Fit) -> UInt8[np.ndarray, "{size} {size} 3"]:
    if isinstance(image, bytes):
        return read_picture(image, size=size, fit=fit)
    if isinstance(image, Path | str):
        return read_picture(Path(image), size=size, fit=fit)
    return fit_picture(_as_pillow(image), size=size, fit=fit)


def _listed(images: Image | Sequence[Image]) -> Sequence[Image]:
    alone = isinstance(images, Path | str | bytes | PIL.Image.Image | np.ndarray)
    return [images] if alone else images  # type: ignore[list-item, return-value]


def _one_by_one(image: Image) -> Sequence[Image]:
    """The images of an array that holds several."""
    if not isinstance(image, np.ndarray):
        return [image]
    several = image.ndim == 4 or (image.ndim == 3 and image.shape[-1] not in (1, 3, 4))
    return [*image] if several else [image]


def _as_trained(image: np.ndarray, form: ImageForm) -> bool:
    same = image.shape in (form.shape, form.shape[:2] if form.shape[2] == 1 else form.shape)
    return image.dtype == np.uint8 and same


def _as_pillow(image: PIL.Image.Image | np.ndarray) -> PIL.Image.Image:
    if isinstance(image, PIL.Image.Image):
        return image
    what = f"an array of {image.dtype} {list(image.shape)}"
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        fix = "pass [height, width], or [height, width, 1, 3 or 4]"
        raise DataError(what, "is no image", fix=fix)
    if image.dtype == bool or (image.dtype.kind == "f" and _in_unit(image)):
        image = np.round(image.astype(np.float32) * 255).astype(np.uint8)
    if image.dtype != np.uint8 or 0 in image.shape:
        fix = "pass uint8 from 0 to 255, or floats from 0 to 1"
        raise DataError(what, "holds other values than a picture", fix=fix)
    return PIL.Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)


def _in_unit(image: np.ndarray) -> bool:
    return bool(image.size) and bool(np.all((image >= 0) & (image <= 1)))
