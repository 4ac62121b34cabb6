"""Training images changed at random: moved, turned, bent, partly covered, by one gather."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped, UInt8

from mnistjax.data.augment_text import USUAL, out_of_range, parse_augmentation
from mnistjax.errors import DataError, UsageError

Augment = Callable[[Any, Any], Array]
"""`augment(keys, images) -> images`: a key for each image, of the same shape and dtype.

`jax.vmap` of a function of one key and one image is one.
"""

BITS = 6  # of a pixel's parts, to which places are rounded: shifts take a third of what // does
COARSE = 5  # places along a side where an elastic displacement is drawn; between them it is smooth


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How much images are changed at random, at most; 0 leaves that out.

    Call it with keys [n] and raw images [n, height, width, channels] of uint8. All changes of place
    are one map of coordinates, and each image is read once by it, between pixels (bilinear); what
    comes from outside is black. Raises `UsageError` for a strength outside of its range, and
    `DataError` for images of another dtype.

    >>> augment = Augmentation(shift=0.1, rotation=15.0)
    >>> keys, images = jax.random.split(jax.random.key(0), 2), jnp.ones((2, 28, 28, 1), jnp.uint8)
    >>> augment(keys, images).shape
    (2, 28, 28, 1)
    """

    shift: float = 0.0
    """Share of the side that an image moves along each axis, either way."""
    rotation: float = 0.0
    """Degrees, either way."""
    scale: float = 0.0
    """Share by which an image grows or shrinks: of 0.1, from 1 / 1.1 to 1.1 times."""
    shear: float = 0.0
    """Degrees by which uprights lean, either way."""
    elastic: float = 0.0
    """Standard deviation of a smooth displacement, as a share of the side (Simard et al. 2003)."""
    cutout: float = 0.0
    """Side of a black square anywhere, as a share of the image's (arXiv:1708.04552)."""
    crop: float = 0.0
    """Up to this share of the area is cut away and the rest enlarged to the whole."""
    flip: float = 0.0
    """Probability that left and right change places."""

    def __post_init__(self) -> None:
        for name, strength in asdict(self).items():
            if why := out_of_range(name, strength):
                fix = f"pass `{name}={USUAL[name]:g}`"
                raise UsageError(f"`{name}` {strength:g}", why, fix=fix)

    @partial(jax.jit, static_argnums=0)
    def __call__(
        self, keys: Shaped[Array, " n"], images: Shaped[Array, "n h w c"]
    ) -> UInt8[Array, "n h w c"]:
        if images.dtype != jnp.uint8:
            why = "are not the uint8 pixels 0..255 that are augmented"
            fix = "augment them by a function of your own"
            raise DataError(f"images of {images.dtype}", why, fix=fix)
        count = len(ORDER) + (2 * COARSE**2 if self.elastic else 0)
        draws = jax.vmap(lambda key: jax.random.uniform(key, (count,), minval=-1.0))(keys).T
        draw = dict(zip(ORDER, draws, strict=False)) | {"bent": draws[len(ORDER) :]}
        height, width = images.shape[1:3]
        if any(getattr(self, name) for name in PLACES):
            images = sample(images, *self._places(draw, height, width))
        if self.cutout:
            images = jnp.where(self._covered(draw, height, width), jnp.uint8(0), images)
        return images

    def _places(
        self, draw: dict[str, Array], height: int, width: int
    ) -> tuple[Float[Array, "n h w"], Float[Array, "n h w"]]:
        """The row and the column of the image that each pixel of the new one is read at."""
        matrix, room, shift = self._affine(draw)
        bent = self.elastic * _smooth(draw["bent"], height, width) if self.elastic else (0.0, 0.0)
        y, x = (jnp.arange(size, dtype=jnp.float32) - (size - 1) / 2 for size in (height, width))
        places = []
        for axis, size in enumerate((height, width)):
            move = room[:, axis] * (size - 1) - shift[:, axis] * size
            by_row, by_column, by = (of[:, None, None] for of in (*matrix[:, axis].T, move))
            place = by_row * y.reshape(1, -1, 1) + by_column * x.reshape(1, 1, -1) + by
            places.append(place + (size - 1) / 2 + bent[axis] * size)
        return places[0], places[1]

    def _affine(self, draw: dict[str, Array]) -> tuple[Array, Array, Array]:
        """A matrix [n, 2, 2], and moves [n, 2] as shares of the side: of a crop, and of a shift."""
        angle = jnp.radians(self.rotation) * draw["angle"]
        lean = jnp.tan(jnp.radians(self.shear) * draw["lean"])
        grown = (1 + self.scale) ** draw["grown"]
        kept = jnp.sqrt(1 - self.crop * (draw["kept"] + 1) / 2)
        side = jnp.where((draw["side"] + 1) / 2 < self.flip, -1.0, 1.0)
        size, cos, sin = kept / grown, jnp.cos(angle), jnp.sin(angle)
        # Stretched, sheared, then turned.
        rows = jnp.stack([size * (cos + sin * lean), size * side * sin], axis=-1)
        columns = jnp.stack([size * (cos * lean - sin), size * side * cos], axis=-1)
        room = jnp.stack([draw["up"], draw["left"]], axis=-1) * (1 - kept)[:, None] / 2
        shift = self.shift * jnp.stack([draw["down"], draw["right"]], axis=-1)
        return jnp.stack([rows, columns], axis=1), room, shift

    def _covered(self, draw: dict[str, Array], height: int, width: int) -> Array:
        inside = []
        for name, size in (("above", height), ("beside", width)):
            middle = (draw[name] + 1) / 2 * size
            pixels = jnp.arange(size, dtype=jnp.float32) + 0.5
            inside.append(jnp.abs(pixels[None] - middle[:, None]) < self.cutout * size / 2)
        rows, columns = inside
        return (rows[:, :, None] & columns[:, None, :])[..., None]


def augmentation_of(text: str, *, photos: bool) -> Augmentation | None:
    """What `text` asks for (`parse_augmentation`); None where that is nothing."""
    strengths = parse_augmentation(text, photos=photos)
    return Augmentation(**strengths) if strengths else None


ORDER = "angle", "lean", "grown", "kept", "side", "up", "left", "down", "right", "above", "beside"
PLACES = tuple(field.name for field in fields(Augmentation) if field.name != "cutout")


def _smooth(drawn: Float[Array, "coarse n"], height: int, width: int) -> Float[Array, "2 n h w"]:
    """Displacements of unit deviation from draws of -1..1 at coarse places, cubic in between."""
    coarse = drawn.reshape(2, COARSE**2, -1) * math.sqrt(3)
    spread = np.einsum("hi,wj->ijhw", _spread(height), _spread(width)).reshape(COARSE**2, -1)
    return jnp.einsum("akn,kp->anp", coarse, spread).reshape(2, -1, height, width)


def _spread(size: int) -> np.ndarray:
    """What each coarse value gives to each pixel [size, COARSE]: B-splines, to unit deviation."""
    places = (np.arange(size) + 0.5) / size * (COARSE - 1)
    far = np.abs(places[:, None] - np.arange(COARSE))
    near = 2 / 3 - far**2 + far**3 / 2
    weights = np.where(far < 1, near, np.clip(2 - far, 0, None) ** 3 / 6)
    return (weights / np.sqrt((weights**2).sum(axis=1, keepdims=True))).astype(np.float32)


def sample(
    images: UInt8[Array, "n h w c"],
    rows: Float[Array, "n h2 w2"],
    columns: Float[Array, "n h2 w2"],
) -> UInt8[Array, "n h2 w2 c"]:
    """`images` read at `rows` and `columns`, between pixels bilinearly; black outside.

    Places count from the first pixel's centre, and are rounded to a 64th of a pixel. The four
    neighbours of a place lie in one number of 32 bits, so that a gather is made once, and whole
    numbers take half of the time that floats do: XLA on a CPU converts each for itself.

    >>> image = jnp.array([[0, 100]], jnp.uint8).reshape(1, 1, 2, 1)
    >>> sample(image, jnp.zeros((1, 1, 1)), jnp.full((1, 1, 1), 0.5)).item()
    50
    """
    count, height, width, channels = images.shape
    around = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0))).astype(jnp.uint32)
    above, below = around[:, :-1], around[:, 1:]
    four = above[:, :, :-1], above[:, :, 1:], below[:, :, :-1], below[:, :, 1:]
    packed = four[0] | four[1] << 8 | four[2] << 16 | four[3] << 24
    row, down = _whole_and_share(rows, height)
    column, right = _whole_and_share(columns, width)
    first = jnp.arange(count, dtype=jnp.int32).reshape(-1, 1, 1) * (height + 1)
    index = (first + row) * (width + 1) + column
    taken = packed.reshape(-1, channels).at[index].get(mode="promise_in_bounds")
    taken = jax.lax.optimization_barrier(taken)  # else XLA gathers anew for each of the four
    parts = [(taken >> shift & 255).astype(jnp.int32) for shift in (0, 8, 16, 24)]
    top, bottom = (
        (left << BITS) + (beside - left) * right[..., None]
        for left, beside in (parts[:2], parts[2:])
    )
    sums = (top << BITS) + (bottom - top) * down[..., None]
    return ((sums + (1 << 2 * BITS - 1)) >> 2 * BITS).astype(jnp.uint8)


def _whole_and_share(places: Array, size: int) -> tuple[Array, Array]:
    """Of the image with a black line around: the pixel before, and how many 64ths behind it."""
    at = jnp.clip((places + 1) * (1 << BITS), 0, (size + 1) << BITS).astype(jnp.int32)
    whole = jnp.minimum(at >> BITS, size)
    return whole, at - (whole << BITS)
