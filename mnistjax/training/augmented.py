"""A training step that sees every image changed at random, and never twice the same way."""

from functools import partial

import jax

from mnistjax.data.augment import Augment
from mnistjax.data.batches import Batch
from mnistjax.training.metrics import Metrics
from mnistjax.training.parallel import donated
from mnistjax.training.randomness import image_keys
from mnistjax.training.state import TrainState, TrainStep


def augmented(
    train_step: TrainStep, *, augment: Augment, seed: int, donate: bool = True
) -> jax.stages.Wrapped:
    """`train_step`, jitted, of images that `augment(keys, images)` has changed.

    The key of an image is `image_keys(seed, step)` of its place in the batch. The batch of a step
    follows from (seed, epoch), so a key belongs to seed, epoch and example, on any number of
    devices: a resumed run sees what one never stopped would have. Evaluation is without it.

    >>> from mnistjax.data.augment import Augmentation
    >>> import jax.numpy as jnp
    >>> def ink(state, batch):
    ...     return state._replace(step=state.step + 1), Metrics(batch.images.sum(), 0, 1)
    >>> step = augmented(ink, augment=Augmentation(shift=0.4), seed=0)
    >>> images = jnp.arange(25, dtype=jnp.uint8).reshape(1, 5, 5, 1)
    >>> batch = Batch(images, jnp.zeros(1, jnp.int32), jnp.ones(1, bool))
    >>> state, first = step(TrainState(jnp.array(0), {}, ()), batch)
    >>> bool(first.loss_sum == step(state, batch)[1].loss_sum)
    False
    """

    @partial(jax.jit, donate_argnums=donated(donate))
    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        keys = image_keys(seed, state.step, len(batch.images))
        return train_step(state, batch._replace(images=augment(keys, batch.images)))

    return step
