"""A trained network as a file of `jax.export`: StableHLO for every platform, any batch size."""

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import export
from jaxtyping import Array, Float32, UInt8

from mnistjax.data.batches import to_unit
from mnistjax.errors import UsageError
from mnistjax.models.described import network
from mnistjax.models.functional import call
from mnistjax.models.named import described_network
from mnistjax.runs.archive import Archive
from mnistjax.runs.train import Model, as_functions
from mnistjax.training.metrics import widen
from mnistjax.weights.preprocess import to_vgg_input

PLATFORMS = "cpu", "cuda", "tpu"
ABOUT = "about.json"

Logits = Callable[[Any, UInt8[Array, "n h w c"]], Float32[Array, "n classes"]]


def to_stablehlo(archive: Archive, about: dict[str, Any], model: Model | None = None) -> bytes:
    """What `jax.export.deserialize` reads, and behind it a zip archive with `about` as about.json.

    A flatbuffer is read from its start and a zip archive from its end, so one file is both, as
    TensorFlow Lite's files with metadata are. The exported function maps uint8 images [n, *shape]
    to probabilities float32 [n, classes], for any n. `model`: see `load`. Raises `UsageError` for
    a network of one's own without it, or one that JAX cannot export with an open batch.
    """
    arrays, logits = whole_network(archive, model)

    def probabilities(images: Array) -> Array:
        # XLA would else compute at every load what depends on constants alone, as transformed
        # kernels, and round it otherwise than the program that takes them as arguments.
        constant = jax.lax.optimization_barrier(jax.tree.map(jnp.asarray, arrays))
        return jax.nn.softmax(logits(constant, images))

    shape = (*export.symbolic_shape("n"), *archive.about["images"]["shape"])
    images = jax.ShapeDtypeStruct(shape, jnp.uint8)
    try:
        exported = export.export(jax.jit(probabilities), platforms=PLATFORMS)(images)
    except Exception as error:
        if model is None:
            raise
        why = " ".join(f"jax.export: {type(error).__name__}: {error}".split())[:200]
        fix = "write it so that shapes do not depend on the batch's"
        raise UsageError("`model`", why, fix=fix) from error
    return _with_about(bytes(exported.serialize()), about)


def whole_network(archive: Archive, model: Model | None) -> tuple[Any, Logits]:
    """Its arrays, and `logits(arrays, images)` of uint8 images; for the rest see `to_stablehlo`."""
    described: dict[str, Any] = archive.about["network"]
    model = model or described_network(described)
    if model is not None:
        apply_fn, params, state = as_functions(model)
        arrays = archive.filled_in(params), archive.filled_in(state, "model_state")

        def logits(of: Any, images: Array) -> Array:
            params, state = of
            return widen(call(apply_fn, params, state, to_unit(images), None)[0])

        return arrays, logits
    if frozen := described.get("frozen"):
        # As plain blocks: transformed kernels (`frozen.forward`) are a CPU's only, five times as
        # large, and the chunks they go with need the number of images.
        size, blocks = frozen["image_size"], [*frozen["blocks"], *described["blocks"]]
        whole = network({**described, "input_shape": [size, size, 3], "blocks": blocks})
        assert whole is not None
        prepare = {"size": size, "pixels": frozen["pixels"]}
        return archive.params, lambda of, images: widen(whole(of, to_vgg_input(images, **prepare)))
    if (known := network(described)) is None:
        what = f"a network of its own, {described['network']}"
        fix = "in Python, mj.export(run, 'stablehlo', model=...) with what it was trained from"
        raise UsageError(what, "only its parameters are in the run", fix=fix)
    return archive.params, lambda of, images: widen(known(of, to_unit(images)))


def _with_about(exported: bytes, about: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    file.write(exported)
    with zipfile.ZipFile(file, "w") as behind:
        text = json.dumps(about | {"jax_export_bytes": len(exported)}, indent=2)
        behind.writestr(zipfile.ZipInfo(ABOUT), text)  # of no date: the same run, the same file
    return file.getvalue()
