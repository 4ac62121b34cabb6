"""How fast to learn: a rate that rises from step to step, and where the loss falls fastest."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float32

from mnistjax.data.batches import epoch_order, steps_per_epoch, take_batch
from mnistjax.data.dataset import Split
from mnistjax.data.prefetch import put_on_device
from mnistjax.models.functional import ModelState, Params
from mnistjax.training.state import TrainState, TrainStep, init_state

LOWEST, HIGHEST, STEPS = 1e-5, 1.0, 100
SMOOTHING, GIVEN_UP = 0.9, 4.0  # of the losses; a multiple of the lowest at which it has diverged


class RateTest(NamedTuple):
    """Losses of a training whose rate rises from step to step, and the rate they suggest."""

    rates: Float32[np.ndarray, " steps"]
    losses: Float32[np.ndarray, " steps"]
    """Smoothed; up to where they are `GIVEN_UP` times the lowest, or no numbers."""
    suggestion: float


def rates_to_try(steps: int = STEPS) -> Callable[[Any], Array]:
    """The rate at each of `steps`: from 1e-5 to 1, by equal factors.

    >>> rate = rates_to_try(3)
    >>> [round(float(rate(step)), 5) for step in range(3)]
    [1e-05, 0.00316, 1.0]
    """
    factor = (HIGHEST / LOWEST) ** (1 / (steps - 1))
    return lambda step: LOWEST * factor ** jnp.asarray(step, jnp.float32)


def find_learning_rate(
    make_step: Callable[[optax.GradientTransformation], TrainStep],
    params: Params,
    train: Split,
    *,
    optimiser: Callable[..., optax.GradientTransformation] = optax.adam,
    model_state: ModelState = (),
    batch_size: int = 128,
    seed: int = 0,
    steps: int = STEPS,
) -> RateTest:
    """Train `params` for `steps` at rising rates, in one scan, and say where it went best.

    `make_step(tx)` makes a pure step (`make_step` of `training.step`). The suggestion is a tenth of
    the rate at which the smoothed loss is lowest: it is still falling there (Smith 2017,
    arXiv:1506.01186, and what fastai makes of it). Nothing of the trained state is kept.

    >>> from mnistjax.training.step import make_step
    >>> images = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1)).astype(np.uint8)
    >>> split = Split(images, (images.reshape(60, -1).argmax(1) % 3).astype(np.int32))
    >>> linear = lambda params, images: images.reshape(len(images), -1) @ params["w"]
    >>> make, params = lambda tx: make_step(apply_fn=linear, tx=tx), {"w": jnp.zeros((16, 3))}
    >>> found = find_learning_rate(make, params, split, batch_size=20)
    >>> round(found.suggestion, 3)
    0.1
    """
    tx = optimiser(rates_to_try(steps))
    epochs = -(-steps // steps_per_epoch(len(train.labels), batch_size))
    orders = [
        epoch_order(seed, epoch, count=len(train.labels), batch_size=batch_size)
        for epoch in range(epochs)
    ]
    step = make_step(tx)

    @jax.jit
    def trained(state: TrainState, order: Array, images: Array, labels: Array) -> Array:
        def one(state: TrainState, row: Array) -> tuple[TrainState, Array]:
            state, metrics = step(state, take_batch(images, labels, row))
            return state, jnp.asarray(metrics.loss_sum) / jnp.asarray(metrics.count, jnp.float32)

        return jax.lax.scan(one, state, order)[1]

    state = init_state(params, tx, model_state)
    losses = np.asarray(trained(state, jnp.concatenate(orders)[:steps], *put_on_device(train)))
    return suggest(np.asarray(rates_to_try(steps)(np.arange(steps))), losses)


def suggest(
    rates: Float32[np.ndarray, " steps"], losses: Float32[np.ndarray, " steps"]
) -> RateTest:
    """What the losses at those rates say: smoothed, cut off where they explode.

    >>> rates = np.geomspace(1e-5, 1, 101, dtype=np.float32)
    >>> losses = (np.log10(rates) + 2) ** 2 / 4 + 1
    >>> 0.0005 < suggest(rates, losses.astype(np.float32)).suggestion < 0.01
    True
    """
    smooth, average = [], 0.0
    for number, loss in enumerate(losses.tolist(), 1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smooth.append(average / (1 - SMOOTHING**number))
        if not np.isfinite(smooth[-1]) or smooth[-1] > GIVEN_UP * min(smooth):
            smooth.pop()
            break
    seen = np.array(smooth, np.float32)
    best = float(rates[int(seen.argmin())]) if len(seen) else LOWEST
    return RateTest(rates[: len(seen)], seen, best / 10)
