"""A convolution of any stride or dilation, its transpose and their gradients, for a CPU.

One kernel for all channels: what each output sees is laid side by side, one axis after the other
(`_unfold`), and is one product with the kernel. The transpose, which is the gradient of the image,
goes the same way back: a product, then each axis is folded (`fold`): the pixels of one remainder
by the stride are sums over a few taps, and the remainders are interleaved. XLA's own gradient is a
convolution of the gradient with zeros between, which has no fast kernel on a CPU.

One kernel a channel (depthwise): sums of shifted products. XLA's own gradient of such a kernel is a
dense one, of all channels with all. Ours is one reduction of several arrays, a product a tap: as a
reduction a tap it took 6 to 20 times as long (64 images of 32x32x144: 196 ms against 14).

Each of the three is linear in both of its arguments, and the other two are its gradients.
"""

from collections.abc import Iterator
from functools import partial, reduce
from operator import add
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from mnistjax.ops.channel_sums import channel_sums

Pads = tuple[tuple[int, int], ...]


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
    return _correlate(taps, x, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def spread(taps: Taps, g: Array, kernel: Array, size: tuple[int, int]) -> Array:
    """The transpose of `correlate`: what outputs `g` give back to an image of `size`."""
    return _spread(taps, g, kernel, size)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def of_kernel(taps: Taps, x: Array, g: Array) -> Array:
    """The kernel's gradient of `correlate`: what the image `x` and the outputs' `g` make of it."""
    return _of_kernel(taps, x, g)


def spread_out(x: Array, kernel: Array, *, taps: Taps, pads: Pads) -> Array:
    """A transposed convolution as `lax` has it: zeros between pixels, `pads` around.

    The kernel is turned, and what `lax` pads less than the kernel reaches is cut off.
    """
    turned = kernel[::-1, ::-1] if taps.depthwise else kernel[::-1, ::-1].swapaxes(2, 3)
    steps = zip(x.shape[1:3], taps.strides, taps.reach, strict=True)
    high, wide = ((n - 1) * s + r for n, s, r in steps)
    whole: Any = spread(taps, x, turned, (high, wide))
    cut = ((low - r + 1, end - r + 1, 0) for (low, end), r in zip(pads, taps.reach, strict=True))
    return lax.pad(whole, jnp.zeros((), x.dtype), [(0, 0, 0), *cut, (0, 0, 0)])


def _correlate_back(taps: Taps, seen: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    # Behind a barrier the image is laid out a second time, instead of nine-fold all the while.
    x, g = lax.optimization_barrier((seen[0], g))
    return spread(taps, g, seen[1], (x.shape[1], x.shape[2])), of_kernel(taps, x, g)


def _spread_back(
    taps: Taps, size: tuple[int, int], seen: tuple[Array, Array], dx: Array
) -> tuple[Array, Array]:
    g, kernel = seen
    return correlate(taps, dx, kernel), of_kernel(taps, dx, g)


def _of_kernel_back(taps: Taps, seen: tuple[Array, Array], dk: Array) -> tuple[Array, Array]:
    x, g = seen
    return spread(taps, g, dk, (x.shape[1], x.shape[2])), correlate(taps, x, dk)


correlate.defvjp(lambda taps, x, kernel: (correlate(taps, x, kernel), (x, kernel)), _correlate_back)
spread.defvjp(
    lambda taps, g, kernel, size: (spread(taps, g, kernel, size), (g, kernel)), _spread_back
)
of_kernel.defvjp(lambda taps, x, g: (of_kernel(taps, x, g), (x, g)), _of_kernel_back)


# Jitted: equal layers are traced and lowered once, ResNet-18's step in 2 s instead of 8.
@partial(jax.jit, static_argnums=0)
def _correlate(taps: Taps, x: Array, kernel: Array) -> Array:
    if taps.depthwise:
        parts = (part * kernel[i : i + 1, j : j + 1] for (i, j), part in _seen(taps, x))
        return reduce(add, parts)
    return _unfold(taps, x) @ kernel.reshape(-1, kernel.shape[-1])


@partial(jax.jit, static_argnums=(0, 3))
def _spread(taps: Taps, g: Array, kernel: Array, size: tuple[int, int]) -> Array:
    if taps.depthwise:
        return _spread_depthwise(taps, g, kernel, size)
    parts = lax.dot_general(g, kernel.reshape(-1, kernel.shape[-1]), (((3,), (1,)), ((), ())))
    for axis in (1, 2):
        parts = fold(taps, parts, axis, size[axis - 1])
    return parts


@partial(jax.jit, static_argnums=0)
def _of_kernel(taps: Taps, x: Array, g: Array) -> Array:
    if taps.depthwise:
        sums = channel_sums(*(part * g for _, part in _seen(taps, x)))
        return jnp.stack(sums).reshape(*taps.size, 1, -1)
    # Over one axis: over three XLA writes one of the two once more, turned.
    seen, g = (lax.collapse(a, 0, 3) for a in (_unfold(taps, x), g))
    product = lax.dot_general(seen, g, (((0,), (0,)), ((), ())))
    return product.reshape(*taps.size, x.shape[-1], g.shape[-1])


def _unfold(taps: Taps, x: Array) -> Array:
    """What each output sees, side by side in the last axis: [batch, outputs, outputs, taps * c].

    First columns, then rows: of nine slices at once XLA compiles each by itself.
    """
    for axis in (2, 1):
        parts = seen_along(taps, x, axis)
        x = jnp.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
    return x


def seen_along(taps: Taps, x: Array, axis: int) -> list[Array]:
    """What outputs see through each tap along one axis, rows (1) or columns (2)."""
    size, stride, dilation = (of[axis - 1] for of in taps[:3])
    end = stride * (taps.outputs(*x.shape[1:3])[axis - 1] - 1) + 1
    starts = range(0, size * dilation, dilation)
    return [lax.slice_in_dim(x, start, start + end, stride, axis) for start in starts]


def fold(taps: Taps, parts: Array, axis: int, length: int) -> Array:
    """The transpose of `seen_along`: the taps' parts [..., taps * c], added up at their places."""
    size, stride, dilation = (of[axis - 1] for of in taps[:3])
    parts = parts.reshape(*parts.shape[:3], size, -1)
    shape = list(parts[:, :, :, 0].shape)
    shape[axis] = -(-length // stride)  # pixels of one remainder
    remainders = [jnp.zeros(shape, parts.dtype)] * stride
    for tap in range(size):
        before, remainder = divmod(tap * dilation, stride)
        config = [(0, 0, 0)] * 4
        config[axis] = (before, shape[axis] - before - parts.shape[axis], 0)
        part = lax.pad(parts[:, :, :, tap], jnp.zeros((), parts.dtype), config)
        remainders[remainder] = remainders[remainder] + part
    whole = lax.collapse(jnp.stack(remainders, axis + 1), axis, axis + 2)
    return lax.slice_in_dim(whole, 0, length, axis=axis)


def _seen(taps: Taps, x: Array) -> Iterator[tuple[tuple[int, int], Array]]:
    """Each tap with what it sees: [batch, outputs, outputs, channels]."""
    (high, wide), (down, right) = taps.outputs(*x.shape[1:3]), taps.strides
    rows, columns = (high - 1) * down + 1, (wide - 1) * right + 1
    for tap, (top, left) in taps.places():
        yield tap, x[:, top : top + rows : down, left : left + columns : right]


def _spread_depthwise(taps: Taps, g: Array, kernel: Array, size: tuple[int, int]) -> Array:
    """Its remainders by the strides, each a sum over what a few taps see of `g`, interleaved."""
    down, right = taps.strides
    high, wide = -(-size[0] // down), -(-size[1] // right)
    above, before = ((r - 1) // s for r, s in zip(taps.reach, taps.strides, strict=True))
    zeros = [(0, 0, 0), (above, high - g.shape[1], 0), (before, wide - g.shape[2], 0), (0, 0, 0)]
    g = lax.pad(g, jnp.zeros((), g.dtype), zeros)
    remainders = [[jnp.zeros((), g.dtype)] * right for _ in range(down)]
    for (i, j), (row, column) in taps.places():
        top, left = above - row // down, before - column // right
        part = g[:, top : top + high, left : left + wide] * kernel[i : i + 1, j : j + 1]
        remainders[row % down][column % right] += part
    if taps.strides == (1, 1):
        return remainders[0][0]
    shape = (g.shape[0], high, wide, g.shape[3])
    rows = [[jnp.broadcast_to(part, shape) for part in row] for row in remainders]
    columns = [lax.collapse(jnp.stack(row, 3), 2, 4) for row in rows]
    whole = lax.collapse(jnp.stack(columns, 2), 1, 3)
    return whole[:, : size[0], : size[1]]
