"""A batch in portions whose intermediate arrays stay in a CPU's cache.

64 maps of 32x32x64 make 38 MB of Winograd's tiles, more than a cache holds: all at once the
convolution took 53 ms, and 138 with its gradients; four maps after four, 24 and 80 (two cores with
32 MiB of L3 cache). What a portion makes is made once more for its gradient, and nobody keeps it.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.export import is_symbolic_dim
from jaxtyping import Array

FITS = 16 * 2**20  # 9 MB took as long at once as in portions, 19 MB twice as long or as long
PORTION = 5 * 2**19


def portion_size(batch: Any, each: int, shared: int) -> int | None:
    """Examples a portion; `None`, all at once, where portions would not help.

    An example makes `each` bytes; all portions read `shared` bytes, which take twice as many to be
    worth it. A portion has two examples or more, and there are as many in each.

    >>> portion_size(64, 590_000, 590_000), portion_size(32, 295_000, 2_400_000)
    (4, None)
    >>> portion_size(61, 590_000, 590_000)
    """
    if is_symbolic_dim(batch) or batch * each <= FITS:
        return None
    most = max(PORTION, shared // 2) // each
    size = max((n for n in range(1, most + 1) if batch % n == 0), default=0)
    return size if size >= 2 and 2 * size >= most else None


def over_portions(fn: Callable[[Array], Array], x: Array, size: int | None) -> Array:
    """`fn(x)`, whose examples do not depend on each other, `size` at a time."""
    if size is None:
        return fn(x)
    devices = 1 if jax.sharding.get_abstract_mesh().manual_axes else jax.device_count()
    each = size * devices
    if len(x) % each:
        return fn(x)
    again = jax.checkpoint(fn, prevent_cse=False)  # pyright: ignore[reportPrivateImportUsage]
    if devices == 1:
        return lax.collapse(lax.map(again, x.reshape(-1, each, *x.shape[1:])), 0, 2)
    # Of rows that lie on several devices, each has its share in every portion.
    y = lax.map(again, x.reshape(each, -1, *x.shape[1:]).swapaxes(0, 1))
    return lax.collapse(y.swapaxes(0, 1), 0, 2)
