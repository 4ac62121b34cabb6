"""Images to logits exactly as the run's own evaluation gave them, in batches of a few sizes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32, UInt8

from mnistjax.data.batches import to_unit
from mnistjax.errors import UsageError
from mnistjax.frozen.features import BATCH
from mnistjax.frozen.forward import make_frozen
from mnistjax.models.described import network
from mnistjax.models.functional import ApplyFn, ModelState, Params, call
from mnistjax.runs.archive import Archive
from mnistjax.training.evaluate import rows_at_a_time
from mnistjax.training.metrics import widen
from mnistjax.weights.preprocess import to_vgg_input

Forward = Callable[[UInt8[np.ndarray, "n h w c"]], Float32[np.ndarray, "n classes"]]

# A frozen block's rows are places of the map, so of larger images fewer are rounded alike: of 32x32
# from 64 on, of 96x96 from 4 on.
ALIKE_PIXELS = 64 * 32 * 32


def make_forward(archive: Archive) -> Forward:
    """`forward(images)`: logits of uint8 images of the shape the network was trained on.

    Bit for bit what evaluation at the end of the run computed, on the same machine. Compiles at
    most two batch sizes. Raises `UsageError` for a network that is not this library's: that needs
    its function (`make_forward_of`).
    """
    about = archive.about
    described = about["network"]
    apply_fn = network(described)
    if apply_fn is None:
        what = f"a network of its own, {described['network']}"
        fix = "pass `model`, the NNX module or (apply_fn, params) it was made from"
        raise UsageError(what, "only its parameters are in the run", fix=fix)
    if "frozen" in described:
        return _after_frozen(archive.params, described["frozen"], apply_fn)
    return make_forward_of(apply_fn, archive.params, ())


def make_forward_of(apply_fn: ApplyFn, params: Params, model_state: ModelState) -> Forward:
    """`forward(images)` of any network that sees pixels as 0..1."""

    def forward(model: tuple[Params, ModelState], images: jax.Array) -> jax.Array:
        return widen(call(apply_fn, *model, to_unit(images), None)[0])

    return partial(_in_usual_batches, _on_device(forward, (params, model_state)))


def _after_frozen(
    params: Params, frozen: dict[str, Any], apply_fn: Callable[[Params, jax.Array], jax.Array]
) -> Forward:
    size, pixels, blocks = frozen["image_size"], frozen["pixels"], frozen["blocks"]
    constant, features = make_frozen(
        params["backbone"], blocks=blocks, image_size=size, dtype=frozen["dtype"]
    )
    first = _on_device(
        lambda constant, x: features(constant, to_vgg_input(x, size=size, pixels=pixels)), constant
    )
    backbone = {n: of for n, of in params["backbone"].items() if n.partition("_")[0] not in blocks}
    trained = {"head": params["head"], "backbone": backbone}
    second = _on_device(lambda params, maps: widen(apply_fn(params, maps)), trained)
    few = max(1, ALIKE_PIXELS // size**2)

    def forward(images: np.ndarray) -> np.ndarray:
        maps = _in_batches(first, few if len(images) <= few else BATCH, images)
        return _in_usual_batches(second, maps)

    return forward


def _in_usual_batches(fn: Callable[[np.ndarray], jax.Array], images: np.ndarray) -> np.ndarray:
    return _in_batches(fn, rows_at_a_time(len(images), images.shape[1:]), images)


def _on_device(fn: Callable[[Any, jax.Array], jax.Array], arrays: Any) -> Callable[..., jax.Array]:
    jitted, arrays = jax.jit(fn), jax.device_put(arrays)
    return lambda x: jitted(arrays, x)


def _in_batches(fn: Callable[[np.ndarray], jax.Array], size: int, images: np.ndarray) -> np.ndarray:
    """`fn` of `images` in batches of `size`, the last filled up."""
    done = []
    with jax.transfer_guard("allow"):  # what is moved here is moved on purpose
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            zeros = [(0, size - len(batch))] + [(0, 0)] * (images.ndim - 1)
            done.append(np.asarray(fn(np.pad(batch, zeros)))[: len(batch)])
    return np.concatenate(done)
