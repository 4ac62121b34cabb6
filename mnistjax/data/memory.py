"""How large images may be to lie on the device as a whole."""

import os
from pathlib import Path
from typing import Any

import numpy as np

LEAST = 2**30
SHARE = 4
"""Of a device's memory one part in four: of a CPU's the host's arrays may take as much once
more, and the validation split, the parameters and what the step computes want room beside them."""


def limit_bytes() -> int:
    """The most bytes of a split's images that lie on the device: a quarter of it, at least 1 GiB.

    >>> limit_bytes() >= 2**30
    True
    """
    return max(LEAST, _device_bytes() // SHARE)


def nbytes(images: Any) -> int:
    """The bytes of all images, read or not.

    >>> nbytes(np.zeros((3, 2, 2, 1), np.float32))
    48
    """
    return int(np.prod(images.shape, dtype=np.int64)) * images.dtype.itemsize


def fits(size: int) -> bool:
    """Whether images of `size` bytes lie on the device as a whole."""
    return size <= limit_bytes()


def _device_bytes() -> int:
    """What the first device has; a CPU does not say, and has what the host has."""
    import jax  # seconds that flags need not wait for

    try:
        stats = jax.local_devices()[0].memory_stats() or {}
    except jax.errors.JaxRuntimeError:  # nor do the plug-ins of some devices
        stats = {}
    return stats.get("bytes_limit") or _host_bytes()


def _host_bytes() -> int:
    """The machine's memory, or what a container is given of it; 0 where it is not told."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on Windows
        return 0
    try:
        return min(machine, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no container, or "max"
        return machine
