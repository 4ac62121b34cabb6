"""Two roads to the same batches: from the device, or from where the images lie, two ahead."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int32

from mnistjax.data.batches import Batch, epoch_batches, on_device
from mnistjax.data.dataset import Split
from mnistjax.data.lazy_images import LazyImages, origin
from mnistjax.data.memory import fits, nbytes
from mnistjax.data.placing import from_own_rows, own_rows

AHEAD = 2  # one for the step that is asked for next, one for when that was quicker than the disk

Batches = Generator[Batch, None, None]


def placement(split: Split) -> str:
    """Which road the batches of `split` take, in words.

    >>> placement(Split(np.zeros((2, 28, 28, 1), np.uint8), np.zeros(2, np.int32)))
    'images stay on the device'
    """
    if stays_on_device(split):
        return "images stay on the device"
    return f"images come from {origin(split.images)}, {AHEAD} batches ahead"


def batches_from(split: Split) -> Callable[..., Batches]:
    """`epoch_batches` of `split` but for its arrays: `batches(order, first=0, padded=True)`.

    Images that fit (`limit_bytes`) are put on the device here, once. Others are gathered by a
    thread of the host, `AHEAD` batches before they are asked for, to the same bits. Close what
    `batches` gives when leaving early: its thread ends there.
    """
    if not stays_on_device(split):
        return partial(_gathered, split)
    return partial(epoch_batches, *put_on_device(split))


def stays_on_device(split: Split) -> bool:
    """Whether its images are there already, or fit; several processes take their rows each."""
    if jax.process_count() > 1:
        return False
    return isinstance(split.images, jax.Array) or fits(nbytes(split.images))


def put_on_device(split: Split) -> tuple[Array, Array]:
    """Images and labels as arrays of the device, read where they come from first."""
    images = split.images
    read = np.asarray(images) if isinstance(images, LazyImages) else images
    return on_device(Split(read, split.labels))


def _gathered(
    split: Split, order: Int32[Array, "steps batch"], *, first: int = 0, padded: bool = True
) -> Batches:
    rows, count = np.asarray(order), len(split.labels)
    jobs = (row if padded else row[row < count] for row in rows[first:])
    return ahead(partial(_gather, split, count), jobs)


def _gather(split: Split, count: int, row: np.ndarray) -> Batch:
    """`take_batch` on the host, moved to the device: new arrays, since a CPU's may be the same."""
    size, row = len(row), own_rows(row)
    real = row[row < count]

    def filled(rows: np.ndarray) -> np.ndarray:
        missing = len(row) - len(rows)
        return np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)])

    taken = (split.images[real], split.labels[real])
    taken = taken if len(real) == len(row) else map(filled, taken)
    if jax.process_count() > 1:
        return Batch(*map(from_own_rows(size), (*taken, row < count)))  # type: ignore[arg-type]
    return Batch(*jax.device_put((*taken, row < count)))


def ahead(make: Callable[[Any], Any], jobs: Iterable[Any], *, count: int = AHEAD) -> Generator:
    """`make` of each of `jobs` in their order, by one thread, up to `count` before they are wanted.

    An error of `make` comes out here. At the end, or when closed, the thread has ended.

    >>> list(ahead(lambda x: x * x, range(4)))
    [0, 1, 4, 9]
    """
    waiting: deque[Future] = deque()
    inside = _settings()
    with ThreadPoolExecutor(1, thread_name_prefix="mnistjax batches") as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(inside, make, job))
                if len(waiting) > count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _settings() -> Callable[..., Any]:
    """What calls a function as if it were called here: a thread has none of these from who made it.

    What is moved there is moved on purpose.
    """
    config: Any = jax.config
    device, wide = config.jax_default_device, config.jax_enable_x64

    def inside(make: Callable[[Any], Any], job: Any) -> Any:
        with jax.transfer_guard("allow"), jax.default_device(device), jax.enable_x64(wide):
            return make(job)

    return inside
