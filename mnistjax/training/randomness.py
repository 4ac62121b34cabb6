"""The keys of every training step, from (seed, step) alone: a resumed run draws the same again."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int32, Shaped

from mnistjax.data.batches import IMPLEMENTATION

# Epochs fold their number into the seed's key directly (`data.batches.epoch_order`): steps have a
# stream of their own, or the masks of step 1 would come from the bits that order epoch 1.
STEPS = 0x57E95
IMAGES = 0x1A6E5


def step_key(seed: int, step: int | Int32[Array, ""]) -> Array:
    """The key for what is random in the training step after `step` steps, dropout for one.

    >>> bool(step_key(0, 3) == step_key(0, 3)), bool(step_key(0, 3) == step_key(0, 4))
    (True, False)
    """
    return _key_of(seed, STEPS, step)


def image_keys(seed: int, step: int | Int32[Array, ""], count: int) -> Shaped[Array, " count"]:
    """A key for each image of the batch after `step` steps, by its place: for augmentation.

    >>> keys = image_keys(0, 3, 8)
    >>> bool(keys[5] == image_keys(0, 3, 6)[5]), bool((keys == image_keys(0, 4, 8)).any())
    (True, False)
    """
    of_step = _key_of(seed, IMAGES, step)
    return jax.vmap(lambda place: jax.random.fold_in(of_step, place))(jnp.arange(count))


def _key_of(seed: int, stream: int, step: int | Int32[Array, ""]) -> Array:
    key = jax.random.fold_in(jax.random.key(seed, impl=IMPLEMENTATION), stream)
    return jax.random.fold_in(key, step)
