"""The frozen part of a fine-tuning: its features from the cache, or computed batch by batch."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import Array

from experiments.run import say_loudly
from experiments.train import console
from mnistjax.data.batches import Batch
from mnistjax.data.cache import cache_dir
from mnistjax.data.dataset import Split
from mnistjax.errors import StorageError
from mnistjax.files import params_sha256
from mnistjax.frozen.cache import Stopped, TooLarge, cached_features, features_key
from mnistjax.frozen.forward import make_frozen
from mnistjax.runs.signals import StopSignals
from mnistjax.training.parallel import by_rows, mesh_if_several, replicate
from mnistjax.weights.source import Weights

BATCH = 256


@dataclass
class Features:
    """How the steps of a run get at what the frozen blocks make of images."""

    splits: list[Split]
    """As given, with features for images where they are cached."""
    through: Callable[[Batch], Batch]
    """What turns a batch of images into features; nothing to do where they are cached."""
    facts: dict[str, Any]
    """For the summary."""


def frozen_features(
    config: Any, weights: Weights, blocks: list[str], splits: list[Split], *, size: int
) -> Features | int:
    """Features of every split, cached if the flags allow it; an exit code if a signal came."""
    dtype = config.dtype
    constant, apply_fn = make_frozen(weights.params, blocks=blocks, image_size=size, dtype=dtype)
    preprocess = weights.preprocess(size)

    def frozen_part(constant: Any, images: Array) -> Array:
        return apply_fn(constant, preprocess(images))

    mesh = mesh_if_several()
    jitted, constant = jax.jit(by_rows(frozen_part, mesh=mesh)), replicate(constant, mesh)

    def compute(images: Array | np.ndarray) -> Array:
        return jitted(constant, images)

    def through(batch: Batch) -> Batch:
        return batch._replace(images=compute(batch.images))

    def uncached(why: str) -> Features:
        say_loudly(config, f"{why}: not cached")
        return Features(splits, through, {"used": False, "why": why})

    if not config.cache_features:
        return Features(splits, through, {"used": False})
    # Of the weights' contents: random ones have no file whose digest could stand for them.
    layers = {n: p for n, p in weights.params.items() if n.partition("_")[0] in blocks}
    shared = {"weights": params_sha256(layers), "blocks": blocks, "size": size, "batch": BATCH}
    shared |= {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
    if mesh is not None:  # smaller parts of a batch: other roundings
        shared |= {"devices": mesh.size}
    shared |= {"preprocess": "bilinear, no antialias, BGR minus means", "dtype": dtype}
    limit = round(config.cache_limit * 2**30)
    done, facts = [], {"used": True, "rows": 0, "computed": 0, "seconds": 0.0, "bytes": 0}
    with StopSignals() as stop:
        for split in splits:
            try:
                got = cached_features(
                    compute,
                    split.images,
                    key=features_key(**shared, images=split.images_sha256()),
                    directory=cache_dir() / "features",
                    batch_size=min(BATCH, len(split.images)),
                    limit_bytes=limit,
                    quiet=config.quiet,
                    console=console,
                    should_stop=lambda: stop.requested,
                )
            except StorageError as error:  # a cache is no reason not to train
                return uncached(f"{error.what}: {error.why}")
            if isinstance(got, TooLarge):
                need = f"features take {got.needed_bytes / 2**30:.1f} GiB"
                return uncached(f"{need}, more than --cache-limit {config.cache_limit:g}")
            if isinstance(got, Stopped) or stop.number is not None:
                rows = got.rows if isinstance(got, Stopped) else len(got.features)
                why = f"interrupted: features of {rows:,} images are kept. Fix: run it again"
                print(why, file=sys.stderr)
                return 128 + (stop.number or 0)
            done.append(Split(got.features, split.labels))
            facts["rows"] += len(got.features)
            facts["computed"] += got.computed
            facts["seconds"] += got.seconds
            facts["bytes"] += got.features.nbytes
    return Features(done, lambda batch: batch, facts)


def saving(facts: dict[str, Any], *, train_examples: int, epochs: int) -> str:
    """What the cache saved, in one line; "" where it was not used.

    >>> facts = {"used": True, "rows": 70, "computed": 70, "seconds": 7.0, "bytes": 2**20}
    >>> saving(facts, train_examples=60, epochs=5)
    'features: 70 of 70 images computed in 7.0 s, 1 MiB kept; 4 more epochs would have cost 24 s'
    """
    if not facts["used"]:
        return ""
    line = (
        f"features: {facts['computed']:,} of {facts['rows']:,} images computed"
        f" in {facts['seconds']:.1f} s, {facts['bytes'] / 2**20:,.0f} MiB kept"
    )
    if not facts["computed"]:
        return line
    each = facts["seconds"] / facts["computed"]
    more = each * train_examples * (epochs - 1)
    return f"{line}; {epochs - 1} more epochs would have cost {more:.0f} s"
