"""What a frozen backbone says of every image, computed once and kept on disk."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float32, UInt8

from mnistjax.data.lazy_images import LazyImages
from mnistjax.errors import UsageError
from mnistjax.report.console import console
from mnistjax.rows.cache import Cached, RowsToMake, TooLarge, Unfinished, cached_rows


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
    images: UInt8[np.ndarray, "n h w c"] | LazyImages,
    *,
    key: str,
    directory: Path,
    batch_size: int,
    limit_bytes: int | None = None,
    quiet: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Cached | TooLarge | Unfinished:
    """`compute` of every image, from `directory/<key>` as far as it is there (`cached_rows`).

    `compute` is jitted, sees batches of one size (the last one is padded) and treats each image
    for itself; it is traced for its shape in any case.
    """
    return cached_rows(
        features_to_make(compute, images, batch_size=batch_size),
        key=key,
        directory=directory,
        batch_size=batch_size,
        limit_bytes=limit_bytes,
        console=console,
        quiet=quiet,
        should_stop=should_stop,
    )


def features_to_make(
    compute: Callable[[UInt8[np.ndarray, "b h w c"]], Float32[Array, "b *row"]],
    images: UInt8[np.ndarray, "n h w c"] | LazyImages,
    *,
    batch_size: int,
) -> RowsToMake:
    """`compute` of every image, as `cached_rows` takes it; raises `UsageError` if not float32."""
    batch = jax.ShapeDtypeStruct((batch_size, *images.shape[1:]), images.dtype)
    features = jax.eval_shape(compute, batch)
    if features.dtype != np.float32:
        fix = "cast to float32 at the end of compute"
        raise UsageError("feature cache", f"compute gives {features.dtype}", fix=fix)

    def make(start: int, end: int) -> np.ndarray:
        rows = images[start:end]
        padding = [(0, batch_size - len(rows))] + [(0, 0)] * (rows.ndim - 1)
        return np.asarray(compute(np.pad(rows, padding)))[: len(rows)]

    shape = (len(images), *features.shape[1:])
    return RowsToMake(make, shape, np.dtype(np.float32), "features")
