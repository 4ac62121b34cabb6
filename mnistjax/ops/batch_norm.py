"""Batch normalisation by the statistics of the batch, with a gradient that keeps less.

Ioffe & Szegedy 2015 (arXiv:1502.03167). What JAX derives of Flax's keeps x - mean beside x, an
array that is written and read again; here x alone is kept, and the two sums of either pass are one
loop.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from mnistjax.ops.channel_sums import channel_sums
from mnistjax.ops.lowering import by_platform
from mnistjax.ops.padding import sum_dtype
from mnistjax.ops.sharded import vary_alike

Normed = tuple[Array, Array, Array]


def batch_norm(x: Array, scale: Array, bias: Array, *, epsilon: float = 1e-5) -> Normed:
    """`x` [..., channels] normalised over all other axes, and the mean and variance [channels].

    y = (x - mean) / sqrt(var + epsilon) * scale + bias, of x's dtype; statistics are float32, or
    wider. On GPU and TPU, and within `as_lax`, the same is derived by JAX.

    >>> y, mean, var = batch_norm(jnp.array([[[1.0], [3.0]]]), jnp.ones(1), jnp.zeros(1))
    >>> y.ravel().round(3).tolist(), mean.tolist(), var.tolist()
    ([-1.0, 1.0], [2.0], [1.0])
    """
    x, scale, bias = vary_alike([x, scale, bias])
    by_us, by_jax = partial(_fast, epsilon), partial(_plain, epsilon)
    return by_platform(x, scale, bias, cpu=by_us, default=by_jax)


def _plain(epsilon: float, x: Array, scale: Array, bias: Array) -> Normed:
    wide = _wide(x)
    axes = tuple(range(x.ndim - 1))
    mean, square = wide.mean(axes), (wide * wide).mean(axes)
    return _normalised(x, mean, square, scale, bias, epsilon)


# Jitted: equal layers are traced once.
@partial(jax.custom_vjp, nondiff_argnums=(0,))
@partial(jax.jit, static_argnums=0)
def _fast(epsilon: float, x: Array, scale: Array, bias: Array) -> Normed:
    wide = _wide(x)
    mean, square = (total / _count(x) for total in channel_sums(wide, wide * wide))
    return _normalised(x, mean, square, scale, bias, epsilon)


def _fast_and_kept(
    epsilon: float, x: Array, scale: Array, bias: Array
) -> tuple[Normed, tuple[Array, ...]]:
    normed: Any = _fast(epsilon, x, scale, bias)
    _, mean, var = normed
    return normed, (x, scale, bias, mean, lax.rsqrt(var + epsilon))


@partial(jax.jit, static_argnums=0)
def _fast_back(epsilon: float, kept: tuple[Array, ...], given: Normed) -> Normed:
    x, scale, bias, mean, inverse = kept
    g, away, count = _wide(given[0]), _wide(x) - _like(x, mean), _count(x)
    of_bias, of_away = channel_sums(g, g * away)
    factor, of_scale = inverse * scale, of_away * inverse
    slope = (2 * given[2] - factor * inverse * of_scale) / count
    same = (given[1] - factor * of_bias) / count
    dx = g * _like(x, factor) + away * _like(x, slope) + _like(x, same)
    return dx.astype(x.dtype), of_scale.astype(scale.dtype), of_bias.astype(bias.dtype)


_fast.defvjp(_fast_and_kept, _fast_back)


def _normalised(
    x: Array, mean: Array, square: Array, scale: Array, bias: Array, epsilon: float
) -> Normed:
    var = jnp.maximum(0, square - mean**2)  # rounding may leave less than nothing
    factor = lax.rsqrt(var + epsilon) * scale
    y = (_wide(x) - _like(x, mean)) * _like(x, factor) + _like(x, bias)
    return y.astype(x.dtype), mean, var


def _wide(x: Array) -> Array:
    return x.astype(sum_dtype(x))


def _like(x: Array, of_channels: Array) -> Array:
    return lax.expand_dims(of_channels, range(x.ndim - 1))


def _count(x: Array) -> int:
    return x.size // x.shape[-1]
