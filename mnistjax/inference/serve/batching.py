"""Requests that arrive together go through the network together."""

import asyncio
from collections import deque
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from mnistjax.inference.forward import Forward

ROWS = 64  # `Classifier.logits` computes so many anyway: one image costs what 64 do


class _Waiting(NamedTuple):
    images: np.ndarray
    logits: "asyncio.Future[np.ndarray]"


class Batcher:
    """`await batcher(images)`: logits, with whoever else is waiting in the same forward pass.

    One pass at a time, in a thread; while it runs, the next batch gathers, up to 64 rows or one
    request. Who has gone by then (a cancelled task) is left out.
    """

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._waiting: deque[_Waiting] = deque()
        self._working: asyncio.Task[None] | None = None

    async def __call__(
        self, images: UInt8[np.ndarray, "n h w c"]
    ) -> Float32[np.ndarray, "n classes"]:
        mine = _Waiting(images, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await mine.logits

    async def _work(self) -> None:
        while batch := self._next():
            images = np.concatenate([one.images for one in batch])
            try:
                logits = await asyncio.to_thread(self._forward, images)
            except Exception as error:
                _give(batch, [error] * len(batch))
            else:
                ends = np.cumsum([len(one.images) for one in batch])
                _give(batch, np.split(logits, ends[:-1]))

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
