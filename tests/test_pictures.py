"""One picture as a person sees it: the formats, orientations, depths and grounds people have."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from mnistjax.data.picture import Photos, has_colour, read_picture, to_grey
from mnistjax.errors import DataError

random = np.random.default_rng(0)
# Dark above, bright below, a red corner: every turn and mirror of it looks different.
SCENE = np.zeros((40, 40, 3), np.uint8)
SCENE[20:] = 200
SCENE[:20, :20] = (255, 0, 0)


def read(path, **how):
    given: Any = {"size": 40} | how
    return read_picture(path, **given)


def close(got, want, by=12):
    return np.abs(got.astype(int) - want.astype(int)).mean() <= by


TURNS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, 1),
    7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
    8: lambda x: np.rot90(x, 3),
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_upright_as_a_viewer_shows_it(tmp_path, form, orientation):
    """The stored pixels are the scene turned back, and EXIF says how to turn them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(TURNS[orientation](SCENE)))
    stored.save(tmp_path / "x", form, exif=exif)
    assert close(read(tmp_path / "x"), SCENE)


def drawing(mode):
    """Black ink on a transparent ground."""
    rgba = np.zeros((40, 40, 4), np.uint8)
    rgba[10:30, 10:30, 3] = 255
    image = Image.fromarray(rgba)
    if mode == "P":
        paletted = Image.new("P", (40, 40), 0)
        paletted.putpalette([255, 0, 255, 0, 0, 0])
        paletted.paste(1, (10, 10, 30, 30))
        paletted.info["transparency"] = 0
        return paletted
    return image.convert(mode)


DRAWINGS = ["RGBA PNG", "LA PNG", "P PNG", "RGBA WEBP", "P GIF", "RGBA TIFF"]


@pytest.mark.parametrize("kind", DRAWINGS)
def test_what_is_transparent_is_white(tmp_path, kind):
    mode, form = kind.split()
    drawing(mode).save(tmp_path / "x", form, **({"lossless": True} if form == "WEBP" else {}))
    got = read(tmp_path / "x")
    assert got[0, 0].min() > 250 and got[20, 20].max() < 5


def png16(values, kind, *more):
    """A PNG of 16 bits a channel: Pillow writes none in colour."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)

    def chunk(name, data):
        crc = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + crc

    parts = [(b"IHDR", head), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("factor", [1, 16, 256], ids=["0..255", "0..4095", "0..65535"])
@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3), (6, 4)])
def test_sixteen_bits_that_hold_eight_are_not_black(tmp_path, factor, kind, channels):
    values = np.repeat(SCENE[..., 1:2].astype(np.uint16), channels, -1)
    if channels == 4:
        values[..., 3] = 255
    (tmp_path / "x.png").write_bytes(png16(values * factor, kind))
    want = SCENE[..., 1]
    assert np.abs(read(tmp_path / "x.png")[..., 0].astype(int) - want).max() <= 2


@pytest.mark.parametrize("factor", [1, 16])
def test_a_transparent_colour_of_sixteen_bits_is_white(tmp_path, factor):
    values = np.full((40, 40, 3), 90 * factor, np.uint16)
    values[10:30, 10:30] = 200 * factor
    chunk = b"tRNS", struct.pack(">HHH", *[90 * factor] * 3)
    (tmp_path / "x.png").write_bytes(png16(values, 2, chunk))
    got = read(tmp_path / "x.png")
    assert got[0, 0].min() == 255 and got[20, 20].max() == 200


def test_a_tiff_of_twelve_bits_is_not_black(tmp_path):
    wide = SCENE[..., 1].astype(np.uint32).repeat(2, 1) * 16
    first, second = wide[:, 0::2], wide[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1)
    pixels = packed.astype(np.uint8).tobytes()
    sizes = {256: wide.shape[1], 257: len(wide), 258: 12, 259: 1, 262: 1, 273: 8, 278: len(wide)}
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sizes.items())
    tags += struct.pack("<HHII", 279, 4, 1, len(pixels))
    start = b"II*\0" + struct.pack("<I", 8 + len(pixels))
    data = start + pixels + struct.pack("<H", 8) + tags + bytes(4)
    (tmp_path / "x.tif").write_bytes(data)
    want = read_picture(tmp_path / "x.tif", size=40, fit="stretch")[..., 0]
    assert np.abs(want.astype(int) - SCENE[..., 1]).max() <= 2


@pytest.mark.parametrize("form", ["TIFF", "GIF", "WEBP", "PNG"])
def test_of_several_pages_the_first_is_read(tmp_path, form):
    first, second = Image.fromarray(SCENE), Image.fromarray(255 - SCENE)
    lossless = {"lossless": True} if form == "WEBP" else {}
    first.save(tmp_path / "x", form, save_all=True, append_images=[second], **lossless)
    assert close(read(tmp_path / "x"), SCENE)


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_floats_of_a_tiff_are_pixels(tmp_path, top):
    Image.fromarray((SCENE[..., 1] / 200 * top).astype(np.float32)).save(tmp_path / "x.tif")
    assert np.abs(read(tmp_path / "x.tif")[..., 0] - SCENE[..., 1] / 200 * 255).max() <= 1


MODES = {
    "JPEG": ["L", "RGB", "CMYK"], "PNG": ["1", "L", "LA", "P", "RGB", "RGBA"],
    "WEBP": ["RGB", "RGBA"], "BMP": ["1", "L", "P", "RGB"], "GIF": ["L", "P"],
    "TIFF": ["1", "L", "RGB", "RGBA", "CMYK", "LAB"], "AVIF": ["RGB", "RGBA"],
    "PPM": ["1", "L", "RGB"], "JPEG2000": ["L", "RGB"],
}  # fmt: skip


@pytest.mark.parametrize(("form", "mode"), [(f, m) for f, modes in MODES.items() for m in modes])
def test_every_format_and_mode_is_read_by_its_contents(tmp_path, form, mode):
    Image.fromarray(np.full((40, 40, 3), 200, np.uint8)).convert(mode).save(tmp_path / "x", form)
    got = read(tmp_path / "x")
    want = 255 if mode == "1" else 200  # dithered
    assert got.shape == (40, 40, 3) and abs(int(got.mean()) - want) <= (60 if mode == "1" else 8)


def test_the_wrong_suffix_does_not_matter(tmp_path):
    Image.fromarray(SCENE).save(tmp_path / "x.png", "JPEG")
    assert close(read(tmp_path / "x.png"), SCENE)


@pytest.mark.parametrize(("size", "fit"), [(s, f) for s in ((80, 40), (40, 80)) for f in "cps"])
def test_how_it_becomes_square(tmp_path, size, fit):
    """Two white bars on the longer ends of a grey picture."""
    wide = np.full((40, 80, 3), 100, np.uint8)
    wide[:, :20] = wide[:, -20:] = 255
    image = wide if size == (80, 40) else wide.transpose(1, 0, 2)
    Image.fromarray(np.ascontiguousarray(image)).save(tmp_path / "x.png")
    fits = {"c": "crop", "p": "pad", "s": "stretch"}
    got = read(tmp_path / "x.png", fit=fits[fit])
    got = got if size == (80, 40) else got.transpose(1, 0, 2)
    if fit == "c":
        assert (got == 100).all()
    if fit == "s":
        assert (got[:, :8] > 250).all() and (got[:, 13:27] == 100).all()
    if fit == "p":
        assert (got[:8, 12:28] == np.median([100] * 80 + [255] * 120)).all()
        assert (got[12:28, 14:26] == 100).all()


def test_shrinking_forgets_no_pixel(tmp_path):
    """A chessboard of single pixels becomes its mean, not one of its colours."""
    board = (np.indices((400, 400)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "x.png")
    assert np.abs(read(tmp_path / "x.png", size=20).astype(int) - 127).max() <= 3


def test_a_jpeg_of_48_megapixels_is_read_and_a_png_of_that_is_not(tmp_path):
    big = Image.fromarray(np.repeat(np.repeat(SCENE, 150, 0), 200, 1))
    assert big.width * big.height == 48_000_000
    big.save(tmp_path / "x.jpg", quality=50)
    assert close(read(tmp_path / "x.jpg", fit="stretch"), SCENE)
    big.save(tmp_path / "x.png", compress_level=1)
    with pytest.raises(DataError, match="8000x6000 pixels, more than 36,000,000"):
        read(tmp_path / "x.png")


def test_a_claim_beyond_reason_is_refused_unread(tmp_path):
    file = io.BytesIO()
    Image.fromarray(SCENE).save(file, "JPEG")
    data = bytearray(file.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    (tmp_path / "x.jpg").write_bytes(data)
    with pytest.raises(DataError, match="60000x60000 pixels, more than 250,000,000"):
        read(tmp_path / "x.jpg")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF", "BMP"])
def test_half_a_file_is_no_picture(tmp_path, form):
    noise = random.integers(0, 256, (60, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "x", form)
    data = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="cannot be read as a picture"):
        read(tmp_path / "x")


def test_heic_without_its_reader_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    (tmp_path / "x.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 40)
    with pytest.raises(DataError, match=r"mnistjax\[heic\]"):
        read(tmp_path / "x.heic")


def test_grey_is_what_pillow_makes_of_it():
    noise = random.integers(0, 256, (20, 20, 3), dtype=np.uint8)
    want = np.asarray(Image.fromarray(noise).convert("L"))
    np.testing.assert_array_equal(to_grey(noise[None])[0, ..., 0], want)


def test_a_grey_photo_saved_in_colour_has_none(tmp_path):
    grey = np.repeat(random.integers(0, 256, (40, 40, 1), dtype=np.uint8), 3, -1)
    Image.fromarray(grey).save(tmp_path / "x.jpg", quality=60)
    assert not has_colour(read(tmp_path / "x.jpg")[None])
    assert has_colour(SCENE[None])
    assert Photos().color is None


def test_heic_is_read_with_its_reader(tmp_path):
    pytest.importorskip(
        "pillow_heif", reason="the extra heic is not installed"
    ).register_heif_opener()
    Image.fromarray(SCENE).save(tmp_path / "x", "HEIF")
    assert close(read(tmp_path / "x"), SCENE)


def swapped_profile():
    """A profile in which red and green mean one another."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for at in range(132, 132 + 12 * struct.unpack(">I", profile[128:132])[0], 12):
        other = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}
        profile[at : at + 4] = other.get(bytes(profile[at : at + 4]), profile[at : at + 4])
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
def test_colours_are_what_the_profile_means(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    Image.new("RGB", (16, 16), (250, 10, 10)).save(path, icc_profile=swapped_profile())
    assert close(read(path)[8, 8], np.array((10, 250, 10)))


def test_an_srgb_profile_changes_no_pixel_and_a_broken_one_none(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"broken", swapped_profile()[:300]):
        Image.fromarray(pixels).save(tmp_path / "x.png", icc_profile=profile)
        assert (read(tmp_path / "x.png") == pixels).all()
