"""A strided convolution and both its gradients as sums over the taps of its kernel, for a CPU.

A tap (i, j) of a kernel sees the image shifted by (i, j), every `stride`-th pixel: one slice. What
a tap gives back to the image lies `stride` apart, so the gradient is computed phase by phase: the
pixels of one remainder by the stride are sums over a few taps, and are interleaved in the end.
XLA's own gradient of a strided convolution is a convolution of the gradient with zeros between, and
that of a depthwise kernel a dense one: neither has a fast kernel on a CPU.
"""

from collections.abc import Iterator
from functools import partial, reduce
from operator import add
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


class Taps(NamedTuple):
    """Where a kernel of `size` reads: `strides` between outputs, `dilation` between taps."""

    size: tuple[int, int]
    strides: tuple[int, int]
    dilation: tuple[int, int]
    depthwise: bool
    """One kernel a channel, [rows, columns, 1, channels]; else all channels with all."""

    @property
    def reach(self) -> tuple[int, int]:
        """How many rows and columns one output sees."""
        high, wide = ((k - 1) * d + 1 for k, d in zip(self.size, self.dilation, strict=True))
        return high, wide

    def outputs(self, height: int, width: int) -> tuple[int, int]:
        """How many fit into an image that has its zeros around it already."""
        sizes = zip((height, width), self.reach, self.strides, strict=True)
        high, wide = ((n - r) // s + 1 for n, r, s in sizes)
        return high, wide

    def places(self) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Each tap with the place of the image that the first output sees through it."""
        rows, columns = self.size
        for i in range(rows):
            for j in range(columns):
                yield (i, j), (i * self.dilation[0], j * self.dilation[1])


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def correlate(taps: Taps, x: Array, kernel: Array) -> Array:
    """The convolution of `x`, zeros around it included, with `kernel`; float32 or wider."""
    return _sum_over(taps, _seen(taps, x), kernel)


def _forward(taps: Taps, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return correlate(taps, x, kernel), (x, kernel)


def _backward(taps: Taps, residuals: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    return _spread(taps, g, kernel, x.shape[1:3]), _of_kernel(taps, x, g)


correlate.defvjp(_forward, _backward)


def _seen(taps: Taps, x: Array) -> dict[tuple[int, int], Array]:
    """What each tap sees: [batch, outputs, outputs, channels]."""
    (high, wide), (down, right) = taps.outputs(*x.shape[1:3]), taps.strides
    rows, columns = (high - 1) * down + 1, (wide - 1) * right + 1
    return {
        tap: x[:, top : top + rows : down, left : left + columns : right]
        for tap, (top, left) in taps.places()
    }


def _sum_over(taps: Taps, seen: dict[tuple[int, int], Array], kernel: Array) -> Array:
    """The sum of what some taps see, each times its part of the kernel."""
    if taps.depthwise:
        return reduce(add, (part * kernel[i : i + 1, j : j + 1] for (i, j), part in seen.items()))
    parts = jnp.concatenate([kernel[i, j] for i, j in seen])
    return _side_by_side(seen) @ parts


def _side_by_side(seen: dict[tuple[int, int], Array]) -> Array:
    parts = [*seen.values()]
    return jnp.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]


def _of_kernel(taps: Taps, x: Array, g: Array) -> Array:
    seen = _seen(taps, x)
    if taps.depthwise:
        each = [(part * g).sum((0, 1, 2)) for part in seen.values()]
        return jnp.stack(each).reshape(*taps.size, 1, -1)
    flat = _side_by_side(seen)
    product = lax.dot_general(flat, g, (((0, 1, 2), (0, 1, 2)), ((), ())))
    return product.reshape(*taps.size, x.shape[-1], g.shape[-1])


def _spread(taps: Taps, g: Array, kernel: Array, size: tuple[int, ...]) -> Array:
    """The gradient of an image of `size`: its phases, interleaved."""
    down, right = taps.strides
    high, wide = -(-size[0] // down), -(-size[1] // right)
    back = kernel if taps.depthwise else kernel.swapaxes(2, 3)
    nothing = jnp.zeros((g.shape[0], high, wide, back.shape[-1]), g.dtype)
    phases = [
        _sum_over(taps, seen, back)
        if (seen := _reached(taps, g, (a, b), (high, wide)))
        else nothing
        for a in range(down)
        for b in range(right)
    ]
    if len(phases) == 1:
        return phases[0]
    stacked = jnp.stack(phases, axis=3).reshape(g.shape[0], high, wide, down, right, -1)
    whole = stacked.transpose(0, 1, 3, 2, 4, 5).reshape(g.shape[0], high * down, wide * right, -1)
    return whole[:, : size[0], : size[1]]


def _reached(
    taps: Taps, g: Array, phase: tuple[int, int], size: tuple[int, int]
) -> dict[tuple[int, int], Array]:
    """For each tap that reaches the pixels of `phase`, the gradient of the output it is for."""
    found = {}
    for tap, place in taps.places():
        if any((p - a) % s for p, a, s in zip(place, phase, taps.strides, strict=True)):
            continue
        config = [(0, 0, 0)]
        for axis in (0, 1):
            before = (place[axis] - phase[axis]) // taps.strides[axis]
            config.append((before, size[axis] - before - g.shape[axis + 1], 0))
        found[tap] = lax.pad(g, jnp.zeros((), g.dtype), [*config, (0, 0, 0)])
    return found
