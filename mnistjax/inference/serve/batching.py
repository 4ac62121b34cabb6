"""Requests that arrive together go through the network together."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from mnistjax.inference.forward import Forward

ROWS = 64  # at most in a pass; `Classifier.logits` fills it up, so one image costs what 64 do
PATIENCE = 0.05  # seconds that a pass waits for pictures that are being decoded


class _Waiting(NamedTuple):
    images: np.ndarray
    logits: "asyncio.Future[np.ndarray]"


class Batcher:
    """`await batcher(images)`: logits, with whoever else is waiting in the same forward pass.

    One pass at a time, in a thread; the next batch gathers while it runs, and while others are
    `expected`, up to 64 rows or one request. Who has gone by then (a cancelled task) is left out.
    """

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._waiting: deque[_Waiting] = deque()
        self._working: asyncio.Task[None] | None = None
        self._expected = 0
        self._changed = asyncio.Event()

    @contextmanager
    def expected(self) -> Iterator[None]:
        """Within it images are made ready that may be asked about next: passes wait a little."""
        self._expected += 1
        try:
            yield
        finally:
            self._expected -= 1
            self._changed.set()

    async def __call__(
        self, images: UInt8[np.ndarray, "n h w c"]
    ) -> Float32[np.ndarray, "n classes"]:
        mine = _Waiting(images, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await mine.logits

    async def _work(self) -> None:
        while self._waiting:
            await self._gathered()
            batch = self._next()
            if not batch:
                break
            images = np.concatenate([one.images for one in batch])
            try:
                logits = await asyncio.to_thread(self._forward, images)
            except Exception as error:
                _give(batch, [error] * len(batch))
            else:
                ends = np.cumsum([len(one.images) for one in batch])
                _give(batch, np.split(logits, ends[:-1]))

    async def _gathered(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self._expected and sum(len(one.images) for one in self._waiting) < ROWS:
                    self._changed.clear()
                    await self._changed.wait()

    def _next(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        rows = 0
        while self._waiting:
            first = self._waiting[0]
            if batch and rows + len(first.images) > ROWS:
                break
            self._waiting.popleft()
            if not first.logits.done():
                batch.append(first)
                rows += len(first.images)
        return batch


def _give(batch: list[_Waiting], results: list) -> None:
    for one, result in zip(batch, results, strict=True):
        if one.logits.done():  # its client has gone
            continue
        if isinstance(result, Exception):
            one.logits.set_exception(result)
        else:
            one.logits.set_result(result)
