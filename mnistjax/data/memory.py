"""How large images may be to lie on the device as a whole."""

from typing import Any

import numpy as np

LEAST, SHARE = 2**30, 4
"""Of a device's memory one part in four: the validation split, the parameters and what the step
computes want room beside it."""
HOST = 2**29
"""On a CPU what lies on the device is the host's memory, and held out examples are a copy more:
a run on 14,400 photos of 224x224 took 6.0 GB there, gathered from their file 1.9."""


def limit_bytes() -> int:
    """The most bytes of a split's images that lie on the device as a whole.

    >>> limit_bytes() >= 2**29
    True
    """
    own = _device_bytes()
    return HOST if own is None else max(LEAST, own // SHARE)


def nbytes(images: Any) -> int:
    """The bytes of all images, read or not.

    >>> nbytes(np.zeros((3, 2, 2, 1), np.float32))
    48
    """
    return int(np.prod(images.shape, dtype=np.int64)) * images.dtype.itemsize


def fits(size: int) -> bool:
    """Whether images of `size` bytes lie on the device as a whole."""
    return size <= limit_bytes()


def _device_bytes() -> int | None:
    """What the first device has; None where it does not say, as a CPU."""
    import jax  # seconds that flags need not wait for

    try:
        stats = jax.local_devices()[0].memory_stats() or {}
    except jax.errors.JaxRuntimeError:  # nor do the plug-ins of some devices
        stats = {}
    return stats.get("bytes_limit")
