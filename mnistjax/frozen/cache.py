"""What a frozen backbone says of every image, computed once and kept on disk."""

import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float32, UInt8

from mnistjax.disk import locked
from mnistjax.errors import UsageError
from mnistjax.frozen.eviction import forget_oldest
from mnistjax.frozen.file import FeatureFile, nbytes
from mnistjax.report.console import console
from mnistjax.report.progress import ProgressBar

COMMIT_SECONDS = 1.0  # of work a kill may cost; each commit waits for the disk


class FeatureCache(NamedTuple):
    """The features of all images, and what they cost."""

    features: Float32[np.ndarray, "n *row"]
    """A read-only memory map."""
    computed: int
    """Rows computed now; the others were on disk."""
    damaged: bool
    """Whether something on disk had changed since it was written, and was computed again."""
    seconds: float
    """Time spent in here, waiting for another process included."""

    @property
    def hit(self) -> bool:
        """Whether nothing was left to compute."""
        return self.computed == 0

    @property
    def images_per_second(self) -> float:
        """Images computed in a second; 0 for a hit."""
        return self.computed / self.seconds


class TooLarge(NamedTuple):
    """The features would take more than the limit; nothing was computed."""

    needed_bytes: int
    limit_bytes: int


class Unfinished(NamedTuple):
    """`should_stop` said so: `rows` are on disk, and the next call continues after them."""

    rows: int
    total: int


def features_key(**facts: Any) -> str:
    """SHA-256 of all that decides the features: weights, preprocessing, size, data, versions ...

    >>> features_key(size=32, cut="block3") == features_key(cut="block3", size=32)
    True
    >>> features_key(size=32)[:8], features_key(size=33)[:8]
    ('adbeca9a', '9f03bbfd')
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def cached_features(
    compute: Callable[[UInt8[np.ndarray, "b h w c"]], Float32[Array, "b *row"]],
    images: UInt8[np.ndarray, "n h w c"],
    *,
    key: str,
    directory: Path,
    batch_size: int,
    limit_bytes: int | None = None,
    quiet: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> FeatureCache | TooLarge | Unfinished:
    """`compute` of every image, from `directory/<key>` as far as it is there and undamaged.

    `compute` is jitted, sees batches of one size (the last one is padded) and treats each image
    for itself; it is traced for its shape in any case. What a stop, an error or a kill leaves is
    continued by the next call. `should_stop` is asked after every batch. Of two processes at one
    key the second waits and finds the work done. `limit_bytes` holds for all features in
    `directory`: those used longest ago are deleted to make room. Raises `StorageError`, for too
    little room before it starts, and `UsageError` for a key that is none of `features_key`'s.
    """
    if not re.fullmatch("[0-9a-f]{64}", key):
        raise UsageError(f"feature cache key {key}", "is no SHA-256", fix="pass features_key(...)")
    started, count = time.perf_counter(), len(images)
    batch = jax.ShapeDtypeStruct((batch_size, *images.shape[1:]), images.dtype)
    features = jax.eval_shape(compute, batch)
    if features.dtype != np.float32:
        fix = "cast to float32 at the end of compute"
        raise UsageError("feature cache", f"compute gives {features.dtype}", fix=fix)
    shape = (count, *features.shape[1:])
    if limit_bytes is not None and nbytes(shape) > limit_bytes:
        return TooLarge(nbytes(shape), limit_bytes)
    place = directory / key
    with locked(place / "lock", should_stop=should_stop) as alone:
        if not alone:
            return Unfinished(0, count)
        if limit_bytes is not None:
            forget_oldest(directory, needed=nbytes(shape), limit_bytes=limit_bytes, spare=key)
        bar = ProgressBar("features", count, console=console, quiet=quiet)
        with FeatureFile(place, shape) as file, bar:
            found = file.rows
            bar.show(found)
            begun = committed = time.monotonic()
            for start in range(found, count, batch_size):
                rows = images[start : start + batch_size]
                padding = [(0, batch_size - len(rows))] + [(0, 0)] * (rows.ndim - 1)
                file.append(np.asarray(compute(np.pad(rows, padding)))[: len(rows)])
                done, now = start + len(rows), time.monotonic()
                speed = (done - found) / max(now - begun, 1e-9)  # a coarse clock may stand still
                bar.show(done, words=f"{speed:,.0f} images/s")
                if now - committed > COMMIT_SECONDS:
                    file.commit()
                    committed = time.monotonic()
                if done < count and should_stop():  # leaving the file commits
                    return Unfinished(done, count)
        seconds = time.perf_counter() - started
        return FeatureCache(file.read(), count - found, file.damaged, seconds)
