"""From a name or path to `Weights`: ImageNet's, a user's file, or random ones, told apart."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mnistjax.data.download import file_digest
from mnistjax.errors import NetworkError, UsageError, WeightsError
from mnistjax.models.vgg16_table import Table, table
from mnistjax.weights import official, sandbox
from mnistjax.weights.read import Params, Reading, read_hdf5
from mnistjax.weights.safetensors import LAYOUT, read_safetensors
from mnistjax.weights.sniff import check_kind

if TYPE_CHECKING:
    import jax

SOURCES = ("auto", "imagenet", "random")


@dataclass(frozen=True, eq=False)  # arrays have no one truth value
class Weights:
    """VGG16's convolutions up to a block, with all that has to travel with them."""

    params: Params
    """Layer -> {"kernel": float32 [3, 3, in, out], "bias": float32 [out]}, Keras's names."""
    sha256: str
    """Digest of the file they came from; "" for random ones."""
    origin: str
    """One phrase for the reader of a report."""
    notice: str = ""
    """What was left out, changed or guessed, and above all that `auto` fell back to random
    weights: shown loudly wherever results are."""
    ignored: tuple[str, ...] = ()
    """Layers of VGG16 that are in the file and behind the cut."""
    layout: str = ""
    """How the file was laid out."""
    pixels: str = "caffe"
    """How images become input: "caffe" (Keras's weights) or "torch" (torchvision's)."""

    def preprocess(self, size: int) -> Callable[["jax.Array"], "jax.Array"]:
        """The function from uint8 [n, h, w, 1 or 3] to what these weights expect at `size`.

        >>> load_weights("random", cut="block3").preprocess(32).keywords
        {'size': 32}
        """
        from mnistjax.weights.preprocess import to_vgg_input

        if self.pixels == "caffe":
            return partial(to_vgg_input, size=size)
        return partial(to_vgg_input, size=size, pixels=self.pixels)


def load_weights(
    source: str | Path = "auto", *, cut: str | None = None, seed: int = 0, quiet: bool = False
) -> Weights:
    """Weights of VGG16 up to block `cut` (block3, block4, block5); by default all there are.

    `source` is a path (.h5 or .keras as Keras writes them, .safetensors as `convert` does or of
    torchvision's vgg16) or a name:
    "imagenet" is Keras's published file, from its cache or the network; "auto" is the same, but
    random weights with a `notice` if it cannot be had; "random" is He-normal from `seed`. A file
    need not go deeper than the cut. A file of unknown digest is parsed in a child process.

    Raises `WeightsError` for a file that is missing, damaged, unsafe or of another network.

    >>> weights = load_weights("random", cut="block3")
    >>> weights.params["block1_conv1"]["kernel"].shape, weights.origin
    ((3, 3, 3, 64), 'random (He-normal, seed 0)')
    """
    wanted = None if cut is None else table(cut)
    if source == "random":
        return _random(wanted or table(), seed)
    if source in ("auto", "imagenet"):
        try:
            path = official.official_file(quiet=quiet)
        except NetworkError as error:
            if source == "imagenet":
                raise WeightsError(error.what, error.why, fix=error.fix) from error
            why = (
                f"ImageNet weights are not on this disk and could not be downloaded ({error.told})"
            )
            notice = f"{why}: these are random weights, which have learnt nothing"
            return dataclasses.replace(_random(wanted or table(), seed), notice=notice)
        return _from_file(path, wanted)
    path = Path(source).expanduser()
    if isinstance(source, str) and not path.suffix and not path.exists():
        UsageError.unless_in("`source`", source, (*SOURCES, "PATH.h5"))
    return _from_file(path, wanted)


def _from_file(path: Path, wanted: Table | None) -> Weights:
    kind = check_kind(path)
    if "th_kernels" in path.name:  # published by Keras 1, without a word of it inside
        why = "by its name its kernels are Theano's, turned by 180 degrees"
        raise WeightsError(str(path), why, fix="pass the file with tf_kernels in its name")
    sha256 = file_digest(path)
    reading, origin = _read(path, kind, sha256, wanted)
    notes = "; ".join(reading.notes)
    return Weights(
        params=reading.params,
        sha256=sha256,
        origin=origin,
        ignored=reading.ignored,
        layout=reading.layout,
        notice=f"{path.name}: {notes}" if notes else "",
        pixels=reading.pixels,
    )


def _read(path: Path, kind: str, sha256: str, wanted: Table | None) -> tuple[Reading, str]:
    """What `path` holds, and where that is from."""
    if kind == "hdf5" and (known := official.known_origin(path, sha256)):
        return read_hdf5(path, wanted), known
    if kind != "safetensors":
        return sandbox.parse(path, wanted), f"file {path.name}"
    reading, metadata = read_safetensors(path, wanted)
    if reading.layout != LAYOUT:
        return reading, f"file {path.name}"
    first = metadata.get("source_sha256", "")[:16] or "none"
    return reading, f"{metadata.get('origin', 'unknown')}, converted (from SHA-256 {first})"


def _random(wanted: Table, seed: int) -> Weights:
    params: Params = {}
    for index, (layer, shapes) in enumerate(wanted.items()):
        # A stream per layer: the cut does not change the layers before it.
        normal = np.random.default_rng([seed, index]).standard_normal(shapes["kernel"], np.float32)
        scale = np.float32(math.sqrt(2 / math.prod(shapes["kernel"][:3])))
        params[layer] = {"kernel": normal * scale, "bias": np.zeros(shapes["bias"], np.float32)}
    return Weights(params=params, sha256="", origin=f"random (He-normal, seed {seed})")
