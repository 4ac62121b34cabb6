"""A picture of what augmentation makes of a few training images."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from mnistjax.data.augment import Augment
from mnistjax.report.figures import seen_figure

SHOWN = 5


def augmented_figure(images: UInt8[np.ndarray, "n h w c"], augment: Augment) -> Figure:
    """The first images, one a row: as they are, then four times as a training step might see them.

    >>> from mnistjax.data.augment import Augmentation
    >>> figure = augmented_figure(np.zeros((7, 8, 8, 1), np.uint8), Augmentation(shift=0.1))
    >>> figure.axes[0].images[0].get_array().shape  # 5 x 5 images of 96, and gaps of 4
    (496, 496)
    """
    few = images[:SHOWN]
    keys = jax.random.split(jax.random.key(0), (SHOWN - 1, len(few)))
    seen = [few, *(np.asarray(augment(of, jnp.asarray(few))) for of in keys)]
    return seen_figure(np.stack(seen, axis=1).reshape(-1, *few.shape[1:]))
