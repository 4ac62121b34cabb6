"""The frozen part of a fine-tuning: its features from the cache, or computed batch by batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import Array

from mnistjax.cache_dir import cache_dir
from mnistjax.data.batches import Batch
from mnistjax.data.dataset import Split
from mnistjax.data.memory import nbytes
from mnistjax.data.placing import data_mesh
from mnistjax.errors import Stopped, StorageError
from mnistjax.files import params_sha256
from mnistjax.frozen.cache import cached_features, features_key
from mnistjax.frozen.forward import make_frozen
from mnistjax.models.functional import Params
from mnistjax.rows.cache import Cached, TooLarge, Unfinished
from mnistjax.runs.plan import itself
from mnistjax.runs.signals import StopSignals
from mnistjax.training.parallel import by_rows, replicate
from mnistjax.weights.pixels import PIXELS
from mnistjax.weights.source import Weights

BATCH = 256


@dataclass(frozen=True, kw_only=True)
class FrozenPart:
    """VGG16's blocks that do not train, and how pixels reach them (`Weights.preprocess`)."""

    params: Params
    blocks: Sequence[str]
    preprocess: Callable[[Array], Array]
    image_size: int
    dtype: str = "float32"
    pixels: str = "caffe"
    """The name of what `preprocess` does: `Weights.pixels`."""

    @classmethod
    def of(
        cls, weights: Weights, blocks: Sequence[str], *, image_size: int, dtype: str = "float32"
    ) -> "FrozenPart":
        """The `blocks` of `weights`, at `image_size`."""
        how = {"image_size": image_size, "dtype": dtype, "pixels": weights.pixels}
        preprocess = weights.preprocess(image_size)
        return cls(params=weights.params, blocks=blocks, preprocess=preprocess, **how)


@dataclass(frozen=True)
class Features:
    """How the steps of a run get at what the frozen part makes of images."""

    splits: list[Split]
    """As given, with features for images where they are cached."""
    through: Callable[[Batch], Batch]
    """What turns a batch of images into features; nothing to do where they are cached."""
    facts: dict[str, Any]
    """For the summary; `why`, where there is no cache although one was asked for."""


def frozen_features(
    part: FrozenPart,
    splits: Sequence[Split],
    *,
    limit_bytes: int | None,
    copies: int = 1,
    quiet: bool = False,
) -> Features:
    """Features of every split, in a cache of at most `limit_bytes`; with None, in every epoch.

    A cache that cannot be written, or would be too large, is no reason not to train: `facts["why"]`
    says so. But for more than one of `copies` (`data.copies`), which are the last splits: without a
    cache they would be other images, so this raises `StorageError`. Raises `Stopped` at a signal;
    the features computed until then are kept.
    """
    compute = _forward(part)

    def through(batch: Batch) -> Batch:
        return batch._replace(images=compute(batch.images))

    def uncached(**why: str) -> Features:
        if copies > 1:
            fix = f"pass fewer than `copies={copies}`, or `cache_features=False` for new ones"
            raise StorageError(f"features of {copies} copies", why["why"], fix=fix)
        return Features([*splits], through, {"used": False} | why)

    if limit_bytes is None:
        return uncached()
    needed = sum(_features_bytes(compute, split.images) for split in splits)
    if copies > 1 and needed > limit_bytes:  # one would push another out
        return uncached(why=_too_large(needed, limit_bytes))
    shared = _shared_key(part)
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
                    limit_bytes=limit_bytes,
                    quiet=quiet,
                    should_stop=lambda: stop.requested,
                )
            except StorageError as error:
                return uncached(why=f"{error.what}: {error.why}")
            if isinstance(got, TooLarge):
                return uncached(why=_too_large(*got))
            if stop.number is not None or isinstance(got, Unfinished):
                rows = got.rows if isinstance(got, Unfinished) else len(got.rows)
                what = f"features of {rows:,} images are kept"
                raise Stopped(stop.number or 0, what, fix="run it again")
            done.append(Split(got.rows, split.labels))
            _count(facts, got)
    return Features(done, itself, facts)


def _too_large(needed: int, limit: int) -> str:
    need, room = needed / 2**30, limit / 2**30
    return f"features take {need:.1f} GiB, more than the cache's limit of {room:g}"


def _features_bytes(compute: Callable[[Array], Array], images: Any) -> int:
    one = jax.eval_shape(compute, jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype))
    return len(images) * nbytes(one)


def _forward(part: FrozenPart) -> Callable[[Array | np.ndarray], Array]:
    constant, apply_fn = make_frozen(
        part.params, blocks=part.blocks, image_size=part.image_size, dtype=part.dtype
    )

    def forward(constant: Any, images: Array) -> Array:
        return apply_fn(constant, part.preprocess(images))

    # Of this process: another may be waiting for the file that these rows go to.
    mesh = data_mesh(jax.local_devices()) if jax.local_device_count() > 1 else None
    jitted, constant = jax.jit(by_rows(forward, mesh=mesh)), replicate(constant, mesh)
    return lambda images: jitted(constant, images)


def _shared_key(part: FrozenPart) -> dict[str, Any]:
    """What decides the features beside the images: the weights by their contents, since random
    ones have no file whose digest could stand for them."""
    layers = {n: p for n, p in part.params.items() if n.partition("_")[0] in part.blocks}
    facts = {"weights": params_sha256(layers), "blocks": part.blocks, "size": part.image_size}
    facts |= {"batch": BATCH, "jax": jax.__version__, "device": jax.devices()[0].device_kind}
    if jax.local_device_count() > 1:  # smaller parts of a batch: other roundings
        facts |= {"devices": jax.local_device_count()}
    return facts | {"preprocess": PIXELS[part.pixels], "dtype": part.dtype}


def _count(facts: dict[str, Any], got: Cached) -> None:
    facts["rows"] += len(got.rows)
    facts["computed"] += got.computed
    facts["seconds"] += got.seconds
    facts["bytes"] += got.rows.nbytes


def saving(facts: dict[str, Any], examples: int, *, epochs: int) -> str:
    """What the cache saved, in one line; "" where it was not used.

    Of several copies an epoch uses one; without a cache each would compute new ones.

    >>> facts = {"used": True, "rows": 70, "computed": 70, "seconds": 7.0, "bytes": 2**20}
    >>> saving(facts, 60, epochs=5)
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
    if facts.get("copies", 1) > 1:
        cost = each * examples * epochs
        return f"{line}; images changed anew for {epochs} epochs would have cost {cost:.0f} s"
    more = each * examples * (epochs - 1)
    return f"{line}; {epochs - 1} more epochs would have cost {more:.0f} s"
