"""The published ImageNet weights: Keras's own file, where it may lie already, and its digest."""

import os
from pathlib import Path

from mnistjax.cache_dir import cache_dir
from mnistjax.data.download import download, file_digest
from mnistjax.errors import NetworkError, WeightsError, warn

NAME = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
URL = f"https://storage.googleapis.com/tensorflow/keras-applications/vgg16/{NAME}"
MD5 = "6d6bbae143d832006294945121d1f1fc"  # Keras publishes no SHA-256
SIZE = 58_889_256
ORIGIN = "ImageNet, Keras's published file"
FIX = "check the network, or pass a `source` you have as a file, or `source='random'`"

# Files seen and verified by hand, by SHA-256.
KNOWN = {
    "f2dfa9073438cb7956b720bf2a675d5c27285ba13c4e4ebb0bd546667f11c012": (
        "ImageNet, blocks 1 to 3 of Keras's published file"
    ),
}


def known_origin(path: Path, sha256: str) -> str:
    """Where a file comes from if its digest says so, else "".

    Such a file is trusted: it is what libhdf5 has read millions of times.
    """
    return KNOWN.get(sha256) or (ORIGIN if is_official(path) else "")


def is_official(path: Path) -> bool:
    """Whether `path` holds the file that Keras publishes, by size and MD5."""
    return path.is_file() and path.stat().st_size == SIZE and file_digest(path, "md5") == MD5


def official_file(*, quiet: bool = False) -> Path:
    """Keras's file: from Keras's cache, else from ours, else from the network, always verified.

    Keras's cache is `$KERAS_HOME/models`, by default `~/.keras/models`; it is only read. Raises
    `NetworkError` within 10 s when the file is nowhere to be had, and `WeightsError` when it is
    not to be had and Keras's cache holds a part of it, or a damaged one.
    """
    keras_home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    in_keras = Path(keras_home, "models", NAME)
    if is_official(in_keras):
        return in_keras
    own = cache_dir() / "weights" / NAME
    found = damage(in_keras)
    try:
        download(URL, own, md5=MD5, size=SIZE, fix=FIX, quiet=quiet)
    except NetworkError as error:
        if not found:
            raise
        why = f"{found}, and the file could not be downloaded ({error.told})"
        fix = "delete it and run again with a network, or pass `source='random'`"
        raise WeightsError(str(in_keras), why, fix=fix) from error
    if found:
        warn(f"{in_keras} is {found}: passed over, {own} is taken")
    return own


def damage(path: Path) -> str:
    """What is wrong with a file that has the official name and is not it; "" if there is none.

    >>> damage(Path("nowhere.h5"))
    ''
    """
    if not path.is_file():
        return ""
    size = path.stat().st_size
    if size < SIZE:
        return f"a part of the file, {size:,} of {SIZE:,} bytes"
    return "damaged: its contents differ from their MD5"
