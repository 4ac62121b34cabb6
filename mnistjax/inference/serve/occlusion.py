"""Where an answer comes from: cover each place in turn and see how much less likely it gets.

After Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks, section 4.2.
"""

import numpy as np
from jaxtyping import Bool, Float, UInt8

from mnistjax.inference.images import ImageForm

PLACES = 8  # by as many: 64 images, one forward pass
PATCH = 4  # a patch is as wide as a quarter of the image
HEAT = (224, 60, 20)
STRONGEST = 200  # of 255: what lies under it still shows


def ground_of(image: UInt8[np.ndarray, "h w c"], form: ImageForm) -> int:
    """What a patch is filled with: the grey in the middle, of a character the ground around it."""
    return 127 if form.ink_side is None else int(np.median(image[[0, -1]]))


def covered(
    image: UInt8[np.ndarray, "h w c"], ground: int
) -> tuple[UInt8[np.ndarray, "n h w c"], Bool[np.ndarray, "n h w"]]:
    """`image` with a patch of `ground` at each of 64 places, and where the patches lie.

    >>> images, masks = covered(np.zeros((28, 28, 1), np.uint8), 127)
    >>> images.shape, set(masks.sum((1, 2)).tolist()), bool(masks.any(0).all())
    ((64, 28, 28, 1), {49}, True)
    """
    sides = [max(1, size // PATCH) for size in image.shape[:2]]
    starts = [
        np.rint(np.linspace(0, size - side, PLACES)).astype(int)
        for size, side in zip(image.shape[:2], sides, strict=True)
    ]
    masks = np.zeros((PLACES**2, *image.shape[:2]), bool)
    for n, (top, left) in enumerate((top, left) for top in starts[0] for left in starts[1]):
        masks[n, top : top + sides[0], left : left + sides[1]] = True
    return np.where(masks[..., None], np.uint8(ground), image), masks


def heat(
    drops: Float[np.ndarray, " n"], masks: Bool[np.ndarray, "n h w"]
) -> UInt8[np.ndarray, "h w 4"]:
    """A colour to lay over the image: the stronger, the more a place counts for the answer.

    Of each pixel the mean drop of the patches that cover it. Where covering helps nothing shows.

    >>> masks = np.array([[[True, False]], [[False, True]]])
    >>> heat(np.array([0.5, -0.1]), masks)[0, :, 3].tolist()
    [200, 0]
    """
    mean = np.tensordot(drops, masks, 1) / np.maximum(masks.sum(0), 1)
    share = np.clip(mean, 0, None) / max(float(mean.max()), 1e-6)
    image = np.empty((*mean.shape, 4), np.uint8)
    image[..., :3] = HEAT
    image[..., 3] = np.rint(share * STRONGEST)
    return image
