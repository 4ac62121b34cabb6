"""One call of the device: a training step, or several in a loop where the host is the slower one.

On an H100 a step of the small CNN, batch 128, takes 271 us in such a loop and 520 us as a call of
its own; with its metrics fetched each time it was 1,800 (docs/performance.md). A CPU is busy with
the step itself, and slow at other libraries' convolutions within a loop (jax#12868).
"""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, Shaped

from mnistjax.data.batches import take_batch
from mnistjax.data.dataset import Split
from mnistjax.data.prefetch import batches_from, put_on_device, stays_on_device
from mnistjax.training.metrics import Metrics
from mnistjax.training.state import TrainState, TrainStep

MOST = 32  # steps of a call; their metrics arrive together
SECONDS = 0.05  # of a call, at most: a Ctrl-C, a save and the progress bar wait for its end


class Call(NamedTuple):
    """`advance(state)` does `steps` steps; the metrics of several are stacked (`Metrics.each`)."""

    steps: int
    advance: Callable[[TrainState], tuple[TrainState, Metrics]]


class InLoops(NamedTuple):
    """A training step, and the loop of it that `make_loop` makes."""

    step: TrainStep
    loop: Callable[..., tuple[TrainState, Metrics]]


Calls = Generator[Call, None, None]


def wants_loops() -> bool:
    """Whether the device waits for the host: one GPU or TPU. Several take a step a call."""
    return jax.default_backend() != "cpu" and jax.local_device_count() == 1


@lru_cache(maxsize=1)  # `fit` called for an epoch at a time compiles once
def make_loop(train_step: TrainStep) -> jax.stages.Wrapped:
    """The jitted `loop(state, images, labels, order, first, count) -> (state, metrics)`.

    It does `count` <= `MOST` steps, on rows `first`, `first` + 1, ... of `order` [steps, batch],
    and gives away `state`. How many is no part of the program: steps of one call have the bits of
    steps of many, so a run resumed within an epoch has those of one never left.

    >>> def step(state, batch):
    ...     return state._replace(step=state.step + 1), Metrics(0.0, 0, batch.mask.sum())
    >>> state, images = TrainState(jnp.array(0), {}, ()), jnp.zeros((3, 1, 1, 1), jnp.uint8)
    >>> order = jnp.array([[0, 1], [2, 3]])
    >>> state, told = make_loop(step)(state, images, jnp.arange(3), order, np.int32(0), np.int32(2))
    >>> int(state.step), [metrics.count for metrics in told.each(2)]
    (2, [2, 1])
    """

    @partial(jax.jit, donate_argnums=0)
    def loop(
        state: TrainState,
        images: Shaped[Array, "n h w c"],
        labels: Shaped[Array, "n *label"],
        order: Int32[Array, "steps batch"],
        first: Int32[Array, ""],
        count: Int32[Array, ""],
    ) -> tuple[TrainState, Metrics]:
        def one(state: TrainState, row: Array) -> tuple[TrainState, Metrics]:
            return train_step(state, take_batch(images, labels, row))

        def next_one(i: Array, so_far: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, metrics = one(so_far[0], order[first + i])
            return state, jax.tree.map(lambda all, new: all.at[i].set(new), so_far[1], metrics)

        told = one(state, order[0])[1]  # for its shapes: XLA leaves out what nothing reads
        room = jax.tree.map(
            lambda new: jnp.zeros((MOST, *jnp.shape(new)), jnp.result_type(new)), told
        )
        return jax.lax.fori_loop(0, count, next_one, (state, room))

    return loop


def calls_from(split: Split, train_step: TrainStep | InLoops) -> Callable[..., Calls]:
    """`calls(order, first=0, padded=True)`: the calls of an epoch over `split`, as its batches are.

    Close them when leaving early, as `batches_from` says. A jitted step is put into a loop where
    one is wanted and the images stay on the device; another callable may do more than compute.
    """
    if isinstance(train_step, jax.stages.Wrapped) and wants_loops():
        train_step = InLoops(train_step, make_loop(train_step))
    if isinstance(train_step, InLoops) and stays_on_device(split):
        return partial(_in_loops, train_step, *put_on_device(split))
    step = train_step.step if isinstance(train_step, InLoops) else train_step
    return partial(_one_by_one, step, batches_from(split))


def _one_by_one(
    train_step: TrainStep, batches_of: Callable[..., Any], order: Array, **which: Any
) -> Calls:
    with closing(batches_of(order, **which)) as batches:
        for batch in batches:
            yield Call(1, partial(_on, train_step, batch))


def _in_loops(
    train: InLoops,
    images: Array,
    labels: Array,
    order: Int32[Array, "steps batch"],
    *,
    first: int = 0,
    padded: bool = True,
) -> Calls:
    """Calls of as many steps as `SECONDS` hold, going by the clock; each at most doubles."""
    steps, size = order.shape
    ragged = 0 if padded else len(labels) % size
    whole = steps - bool(ragged)
    count, before, asked = 1, 0, time.perf_counter()
    while first < whole:
        count = min(count, whole - first)
        places = images, labels, order, np.int32(first), np.int32(count)
        yield Call(count, partial(_on, train.loop, *places))
        # What this call was waited with: the arrival of the one before it.
        now = time.perf_counter()
        fitting = int(SECONDS * before / (now - asked))
        first, before, asked = first + count, count, now
        count = max(1, min(fitting, 2 * count, MOST))
    if ragged and first < steps:
        yield Call(1, partial(_on, train.step, take_batch(images, labels, order[-1, :ragged])))


def _on(advance: Callable[..., Any], *arguments: Any) -> tuple[TrainState, Metrics]:
    *places, state = arguments
    return advance(state, *places)
