"""The training images that a network takes for most alike: near in its last hidden layer."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from mnistjax.errors import MnistjaxError
from mnistjax.inference.serve.inside import Inside

COUNT = 3
ROWS = 256  # of the training images through the network at a time


class Training(NamedTuple):
    """Images that a network was trained on, and how to call them."""

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int[np.ndarray, " n"]
    called: str


class _Known(NamedTuple):
    training: Training
    hidden: np.ndarray
    squares: np.ndarray


Found = list[tuple[np.ndarray, int]]


class Nearest:
    """`await nearest(hidden)`: the three nearest (image, label), and what to say of them.

    The training images are fetched and go through the network once, in a thread, from `begin` on;
    until then, and where they cannot be had, there are none and the note says so.
    """

    def __init__(self, inside: Inside | None, training: Callable[[], Training] | None) -> None:
        self._inside, self._fetch = inside, training
        self._work: asyncio.Task[_Known | str] | None = None

    @property
    def coming(self) -> bool:
        """Whether they are being read."""
        return self._work is not None and not self._work.done()

    def begin(self) -> None:
        """Begin to read them, if nobody has."""
        if self._work is None and self._inside is not None and self._fetch is not None:
            self._work = asyncio.create_task(asyncio.to_thread(self._know))

    async def __call__(self, hidden: Float[np.ndarray, " features"]) -> tuple[Found, str]:
        self.begin()
        if self._work is None:
            return [], "the training images are not at hand"
        if not self._work.done():
            return [], "the training images are being read"
        known = self._work.result()
        if isinstance(known, str):
            return [], known
        rows = np.argsort(known.squares - 2 * (known.hidden @ hidden), kind="stable")[:COUNT]
        training = known.training
        return [(training.images[row], int(training.labels[row])) for row in rows], training.called

    def _know(self) -> "_Known | str":
        assert self._inside is not None and self._fetch is not None
        try:
            training = self._fetch()
            self._inside(training.images[:1])  # compiles it for the first question
        except MnistjaxError as error:
            return f"{error.what}: {error.why}"
        except Exception as error:
            return f"the training images cannot be read ({type(error).__name__})"
        parts = []
        for start in range(0, len(training.images), ROWS):
            images = training.images[start : start + ROWS]
            room = [(0, ROWS - len(images)), (0, 0), (0, 0), (0, 0)]
            parts.append(self._inside(np.pad(images, room))[1][: len(images)])
        hidden = np.concatenate(parts)
        return _Known(training, hidden, (hidden**2).sum(1))
