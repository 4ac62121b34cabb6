"""One image file as a person sees it: upright, in its colours, on white where it is transparent."""

from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin

from mnistjax.data.picture_files import HEIC, kind_of
from mnistjax.errors import DataError

Fit = Literal["crop", "pad", "stretch"]
FITS: tuple[Fit, ...] = ("crop", "pad", "stretch")
# Of what is decoded: 144 MB. A JPEG is decoded at an eighth of its size if that is enough, so its
# claim may be larger; a progressive one keeps all its coefficients, 3 bytes a pixel.
MAX_PIXELS = 36_000_000
MAX_CLAIM, MAX_PROGRESSIVE = 250_000_000, 64_000_000
_File = BufferedReader | BytesIO
COLOUR = 16  # levels between channels: what JPEG makes of a grey photo differs by less


class Photos(NamedTuple):
    """How pictures of any size become one array: squares of `size`.

    `fit`: "crop" cuts the longer side, "pad" fills up the shorter one with the colour of the rim,
    "stretch" squeezes both. `color`: None keeps colours where any file has them, True is always
    RGB, False always grey. With `skip_unreadable` files that cannot be read are left out and told,
    else they are an error. With `verify` files are known by their contents, not their times.
    """

    size: int = 28
    fit: Fit = "crop"
    color: bool | None = None
    skip_unreadable: bool = False
    verify: bool = False


def read_picture(
    source: Path | bytes, *, size: int, fit: Fit = "crop"
) -> UInt8[np.ndarray, "size size 3"]:
    """The picture in a file, or its bytes, as RGB; raise `DataError` if it is none or is damaged.

    EXIF's orientation and the colour profile are followed, transparency lies on white, of 16 bits
    the upper 8 are taken unless all values fit into the lower 12 or 8: then of those the upper 8.
    Of several pages or frames the first is read. Shrunk by Lanczos, enlarged by Pillow's bicubic.
    A PNG must have its checksums right. JPEG has none: a changed byte may be a changed picture.
    """
    name = str(source) if isinstance(source, Path) else "the picture"
    try:
        with source.open("rb") if isinstance(source, Path) else BytesIO(source) as file:
            kind = _check_kind(name, file)
            with _open(file, kind) as image:
                _check_size(name, image, size)
                image.verify()  # lengths too: loading would reserve what a damaged one says
            return np.asarray(_fitted(_on_white(_decoded(file, kind, size)), size, fit))
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        why = f"cannot be read as a picture ({error or type(error).__name__})"
        raise DataError(name, why, fix=_FIX) from error


_FIX = "replace or remove the file"


def fit_picture(
    image: Image.Image, *, size: int, fit: Fit = "crop"
) -> UInt8[np.ndarray, "size size 3"]:
    """An open picture as `read_picture` makes one of a file.

    >>> fit_picture(Image.new("L", (20, 10), 9), size=4).shape
    (4, 4, 3)
    """
    upright = _in_srgb(_eight_bits(ImageOps.exif_transpose(image)))
    return np.asarray(_fitted(_on_white(upright), size, fit))


def has_colour(images: UInt8[np.ndarray, "*n 3"]) -> bool:
    """Whether any pixel's channels differ by more than `COLOUR` levels.

    >>> has_colour(np.array([[9, 9, 20]], np.uint8)), has_colour(np.array([[9, 9, 90]], np.uint8))
    (False, True)
    """
    return bool(((images.max(-1) - images.min(-1)) > COLOUR).any())


def to_grey(images: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n h w 1"]:
    """Luminance as Pillow and JPEG have it (ITU-R BT.601), rounded.

    >>> to_grey(np.full((1, 1, 1, 3), 200, np.uint8)).ravel().tolist()
    [200]
    """
    weights = np.array([19595, 38470, 7471], np.uint32)  # of 65536
    return ((images @ weights + 0x8000) >> 16).astype(np.uint8)[..., None]


def _check_kind(name: str, file: _File) -> str:
    kind = kind_of(file.read(32))
    file.seek(0)
    if kind is None:
        raise DataError(name, "cannot be read as a picture: it is none", fix=_FIX)
    if kind == HEIC:
        try:
            from pillow_heif import register_heif_opener  # pyright: ignore
        except ImportError as error:
            fix = "pip install 'mnistjax[heic]', or save it as JPEG"
            raise DataError(name, "is HEIC, which needs pillow-heif", fix=fix) from error
        register_heif_opener()
    return kind


def _open(file: _File, kind: str) -> Any:
    if kind == "JPEG":  # `Image.open` refuses what claims 179 megapixels before `draft` can help
        return JpegImagePlugin.JpegImageFile(file)
    return Image.open(file, formats=(kind,))


def _check_size(name: str, image: Image.Image, size: int) -> None:
    claim = image.width * image.height
    shrunk = max(1, min(min(image.size) // (2 * size), 8)) if image.format == "JPEG" else 1
    most = MAX_PROGRESSIVE if "progressive" in image.info else MAX_CLAIM
    shrunk = 2 ** (shrunk.bit_length() - 1)  # 1, 2, 4, 8: those that `draft` has
    limit = min(MAX_PIXELS * shrunk**2, most)
    if claim > limit:
        why = f"{image.width}x{image.height} pixels, more than {limit:,}"
        raise DataError(name, why, fix=_FIX)


def _decoded(file: _File, kind: str, size: int) -> Image.Image:
    """The picture upright, of 8 bits a channel."""
    file.seek(0)  # `verify` has used up the other
    with _open(file, kind) as image:
        if kind == "JPEG":
            image.draft(None, (2 * size, 2 * size))
        raw = image.tile[0].args if kind == "PNG" and image.tile else ""
        if raw in ("RGB;16B", "RGBA;16B") and np.asarray(image)[..., :3].max() < 16:
            upper = np.asarray(ImageOps.exif_transpose(image), np.uint16)
            file.seek(0)
            with _open(file, kind) as low:
                low.tile = [low.tile[0]._replace(args=raw.replace("16B", "16L"))]
                lower = np.asarray(ImageOps.exif_transpose(low))
            return _narrowed(256 * upper + lower, image.info.get("transparency"))
        return _in_srgb(_eight_bits(ImageOps.exif_transpose(image)))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Wider grey as 8 bits, which Pillow would clip at 255; floats are 0..1 or 0..255."""
    if image.mode not in ("F", "I") and not image.mode.startswith("I;16"):
        return image
    values = np.nan_to_num(np.asarray(image, np.float64), nan=0.0)
    if image.mode == "F" and values.max(initial=0) <= 1:
        values = values * 255
    return _narrowed(values.clip(0, 65535).astype(np.uint16))


def _narrowed(
    values: UInt16[np.ndarray, "..."], transparent: tuple[int, ...] | None = None
) -> Image.Image:
    """The upper 8 of the 16, 12 or 8 bits that all colours fit into; an alpha of 16 is opaque.

    `transparent`: the colour that is, by PNG's tRNS.
    """
    top = int((values[..., :3] if values.ndim == 3 else values).max(initial=0))
    shift = 0 if top < 256 else 4 if top < 4096 else 8
    image = Image.fromarray(np.minimum(values >> shift, 255).astype(np.uint8))
    if transparent is not None:
        image.info["transparency"] = tuple(value >> shift for value in transparent)
    return image


def _in_srgb(image: Image.Image) -> Image.Image:
    """The colours that its ICC profile means; without a good one, as they are."""
    profile = image.info.get("icc_profile")
    modes = {"RGB": "RGB", "RGBA": "RGBA", "CMYK": "RGB"}
    if not profile or image.mode not in modes:
        return image
    try:
        given = ImageCms.ImageCmsProfile(BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(given):  # only roundings would change
            return image
        srgb = ImageCms.createProfile("sRGB")
        made = ImageCms.profileToProfile(image, given, srgb, outputMode=modes[image.mode])
        return image if made is None else made
    except (ImageCms.PyCMSError, OSError):
        return image


def _on_white(image: Image.Image) -> Image.Image:
    """`image` in RGB: what is transparent shows the white of a page."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def _fitted(image: Image.Image, size: int, fit: Fit) -> Image.Image:
    square = (size, size)
    longest = min(image.size) if fit == "crop" else max(image.size)
    by = Image.Resampling.LANCZOS if longest > size else Image.Resampling.BICUBIC
    if fit == "crop":
        return ImageOps.fit(image, square, method=by)
    if fit == "pad":
        return ImageOps.pad(image, square, method=by, color=_rim(image))
    return image.resize(square, by)


def _rim(image: Image.Image) -> tuple[int, int, int]:
    """The median colour of the outermost pixels."""
    pixels = np.asarray(image)
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return cast(tuple[int, int, int], tuple(int(v) for v in np.median(rim, axis=0)))
