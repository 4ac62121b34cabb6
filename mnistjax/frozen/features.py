"""The frozen part of a fine-tuning: its features from the cache, or computed batch by batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import NamedSharding

from mnistjax.cache_dir import cache_dir
from mnistjax.data.batches import Batch
from mnistjax.data.dataset import Split
from mnistjax.data.memory import nbytes
from mnistjax.data.placing import EVERYWHERE
from mnistjax.errors import Stopped, StorageError
from mnistjax.files import params_sha256
from mnistjax.frozen.cache import features_key, features_to_make
from mnistjax.frozen.forward import make_frozen
from mnistjax.frozen.shares import Kept, made_by_all
from mnistjax.models.functional import Params
from mnistjax.processes import Agreement, several
from mnistjax.report.console import console
from mnistjax.rows.cache import Cached, TooLarge, Unfinished, cached_rows
from mnistjax.runs.plan import itself
from mnistjax.runs.signals import StopSignals
from mnistjax.training.parallel import by_rows, mesh_if_several, replicate
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
    on_host: Callable[[np.ndarray], np.ndarray]
    """As `through`, of images of the host, to features there, by all processes together."""
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
    the features computed until then are kept. Several processes compute them together
    (`made_by_all`).
    """
    forward, to_all = _forward(part)

    def through(batch: Batch) -> Batch:
        return batch._replace(images=forward(batch.images))

    def on_host(images: np.ndarray) -> np.ndarray:
        return np.asarray(to_all(images))

    def uncached(**why: str) -> Features:
        if copies > 1:
            fix = f"pass fewer than `copies={copies}`, or `cache_features=False` for new ones"
            raise StorageError(f"features of {copies} copies", why["why"], fix=fix)
        return Features([*splits], through, on_host, {"used": False} | why)

    if limit_bytes is None:
        return uncached()
    needed = sum(_features_bytes(forward, split.images) for split in splits)
    if copies > 1 and needed > limit_bytes:  # one would push another out
        return uncached(why=_too_large(needed, limit_bytes))
    shared = _shared_key(part)
    done, facts = [], {"used": True, "rows": 0, "computed": 0, "seconds": 0.0, "bytes": 0}
    with StopSignals() as stop:
        for split in splits:
            key = features_key(**shared, images=split.images_sha256())
            keep = partial(cached_rows, key=key, limit_bytes=limit_bytes, quiet=quiet)
            try:
                got = _made(to_all, split.images, keep, lambda: stop.requested)
            except StorageError as error:
                return uncached(why=f"{error.what}: {error.why}")
            if isinstance(got, TooLarge):
                return uncached(why=_too_large(*got))
            got = _whole(got, Agreement().now(stop.number or 0))
            done.append(Split(got.rows, split.labels))
            _count(facts, got)
    return Features(done, itself, np.asarray, facts)


def _made(
    compute: Callable[[Any], Array],
    images: Any,
    keep: Callable[..., Kept],
    should_stop: Callable[[], bool],
) -> Kept:
    """`compute` of all `images`, kept by `keep` in the cache's directory."""
    directory, batch_size = cache_dir() / "features", min(BATCH, len(images))
    keep = partial(keep, directory=directory, batch_size=batch_size, console=console)
    rows = features_to_make(compute, images, batch_size=batch_size)
    return made_by_all(rows, keep, directory=directory, should_stop=should_stop)


def _whole(got: Cached | Unfinished, signal: int) -> Cached:
    """`got`, if there was no `signal`; raises `Stopped` for one."""
    if signal or isinstance(got, Unfinished):
        rows = got.rows if isinstance(got, Unfinished) else len(got.rows)
        raise Stopped(signal, f"features of {rows:,} images are kept", fix="run it again")
    return got


def _too_large(needed: int, limit: int) -> str:
    need, room = needed / 2**30, limit / 2**30
    return f"features take {need:.1f} GiB, more than the cache's limit of {room:g}"


def _features_bytes(compute: Callable[[Array], Array], images: Any) -> int:
    one = jax.eval_shape(compute, jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype))
    return len(images) * nbytes(one)


def _forward(part: FrozenPart) -> tuple[Callable[[Any], Array], Callable[[Any], Array]]:
    """From images to features, over all devices: as the batch lies, and to every process."""
    constant, apply_fn = make_frozen(
        part.params, blocks=part.blocks, image_size=part.image_size, dtype=part.dtype
    )

    def forward(constant: Any, images: Array) -> Array:
        return apply_fn(constant, part.preprocess(images))

    mesh = mesh_if_several()
    shares, constant = by_rows(forward, mesh=mesh), replicate(constant, mesh)
    jitted = to_all = jax.jit(shares)
    if several() and mesh is not None:
        to_all = jax.jit(shares, out_shardings=NamedSharding(mesh, EVERYWHERE))
    return partial(jitted, constant), partial(to_all, constant)


def _shared_key(part: FrozenPart) -> dict[str, Any]:
    """What decides the features beside the images: the weights by their contents, since random
    ones have no file whose digest could stand for them."""
    layers = {n: p for n, p in part.params.items() if n.partition("_")[0] in part.blocks}
    facts = {"weights": params_sha256(layers), "blocks": part.blocks, "size": part.image_size}
    facts |= {"batch": BATCH, "jax": jax.__version__, "device": jax.devices()[0].device_kind}
    if jax.device_count() > 1:  # smaller parts of a batch: other roundings
        facts |= {"devices": jax.device_count()}
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
