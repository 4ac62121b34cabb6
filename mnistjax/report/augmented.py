"""A picture of what augmentation makes of a few training images."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from mnistjax.data.augment import Augment
from mnistjax.report.figures import seen_figure

SHOWN, TITLE = 5, "What augmentation makes of it"


def augmented_figures(
    images: UInt8[np.ndarray, "n h w c"], augment: Augment | None
) -> dict[str, Figure]:
    """The first images, one a row: as they are, then four times as a training step might see them.

    By its title; nothing without augmentation.

    >>> from mnistjax.data.augment import Augmentation
    >>> figures = augmented_figures(np.zeros((7, 8, 8, 1), np.uint8), Augmentation(shift=0.1))
    >>> figures[TITLE].axes[0].images[0].get_array().shape  # 5 x 5 images of 96, and gaps of 4
    (496, 496)
    """
    if augment is None:
        return {}
    few = images[:SHOWN]
    keys = jax.random.split(jax.random.key(0), (SHOWN - 1, len(few)))
    seen = [few, *(np.asarray(augment(of, jnp.asarray(few))) for of in keys)]
    return {TITLE: seen_figure(np.stack(seen, axis=1).reshape(-1, *few.shape[1:]))}
