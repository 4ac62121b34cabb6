"""The frozen part of VGG16 as a constant: its kernels are transformed once, not in every step."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from mnistjax.models.functional import ApplyFn, Params
from mnistjax.models.vgg16 import convolutions, map_shape, walk
from mnistjax.ops import winograd
from mnistjax.ops.convolution import conv2d, conv2d_transformed, fits_winograd

# Pixels in a chunk. Images/s on two cores: 32x32 in 64s 560, in eights 374; 64x64 in 16s 157, in
# 32s 118; 224x224 one by one or in twos 12, in fours 10.5.
CHUNK_PIXELS = 65_536


def make_frozen(
    params: Params, *, blocks: Sequence[str], image_size: int, platform: str | None = None
) -> tuple[Params, ApplyFn]:
    """`(constant, apply_fn)`: `apply_fn(constant, images)` is what VGG16's `blocks` make of images.

    `params` holds at least the layers of `blocks`; images are float32 [batch, image_size,
    image_size, channels], as `VGG16` takes them. On a CPU (`platform` is by default the one JAX
    uses) kernels come Winograd-transformed, at `image_size` 224 six times as large, and a batch
    is walked in chunks; elsewhere it is XLA's convolution over the whole batch. Jit `apply_fn`
    with `constant` as an argument: closed over, it slows compilation. Not made for gradients.

    Raises `ValueError` if `blocks` are not consecutive or the map vanishes, `KeyError` for a
    missing layer.

    >>> from mnistjax.weights.source import load_weights
    >>> params = load_weights("random", cut="block3").params
    >>> constant, apply_fn = make_frozen(params, blocks=["block1", "block2"], image_size=32)
    >>> apply_fn(constant, jnp.zeros((3, 32, 32, 3))).shape
    (3, 8, 8, 128)
    """
    table = convolutions(blocks)
    channels = next((of["kernel"][2] for layers in table.values() for of in layers.values()), 3)
    map_shape((image_size, image_size, channels), blocks)
    layers = [list(layers) for layers in table.values()]
    on_cpu = (platform or jax.default_backend()) == "cpu"
    chunk = _chunk_size(image_size, image_size)
    constant: Params = {}
    for depth, names in enumerate(layers):
        size = image_size >> depth
        for layer in names:
            kernel, bias = (jnp.asarray(params[layer][role]) for role in ("kernel", "bias"))
            if on_cpu and fits_winograd(kernel.shape):
                weights = kernel.shape[2] * kernel.shape[3]
                kernel = _transform(kernel, winograd.tile_size(chunk, size, size, weights))
            constant[layer] = {"kernel": kernel, "bias": bias}

    def apply_fn(constant: Params, images: Array) -> Array:
        def forward(images: Array) -> Array:
            return walk(layers, images, partial(_convolve, constant))

        return _in_chunks(forward, images) if on_cpu else forward(images)

    return constant, apply_fn


_transform = jax.jit(winograd.transform_kernel, static_argnums=1)


def _convolve(constant: Params, layer: str, x: Array) -> Array:
    kernel, bias = constant[layer]["kernel"], constant[layer]["bias"]
    conv = conv2d if kernel.shape[0] == 3 else conv2d_transformed
    return conv(x, kernel) + bias.reshape(1, 1, 1, -1)


def _chunk_size(height: int, width: int) -> int:
    return max(1, CHUNK_PIXELS // (height * width))


def _in_chunks(forward: Callable[[Array], Array], images: Array) -> Array:
    """Equal chunks, so that few images are made up to fill the last one."""
    batch, height, width, _ = images.shape
    count = max(1, -(-batch // _chunk_size(height, width)))
    if count == 1:  # in a loop of one turn 64 images of 32x32 took 0.16 s, without it 0.12 s
        return forward(images)
    size = -(-batch // count)
    zeros = [(0, count * size - batch)] + [(0, 0)] * 3
    chunks = jnp.pad(images, zeros).reshape(count, size, *images.shape[1:])
    return lax.collapse(lax.map(forward, chunks), 0, 2)[:batch]
