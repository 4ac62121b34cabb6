"""The frozen part of VGG16 as a constant: its kernels are transformed once, not in every step."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, UInt8

from mnistjax.models.functional import Params
from mnistjax.models.vgg16 import convolutions, map_shape, walk
from mnistjax.ops.convolution import conv2d
from mnistjax.ops.tiling import tile_size
from mnistjax.ops.winograd import conv2d_frozen, fits_winograd, freeze_kernel

# Values of a block's first map in work at a time, 4 MB: the block's transformed tiles stay near,
# and up to 64x64 its memory below the 32 MB from which glibc's malloc returns it to the system
# after every call. Images/s on two cores with 2**18, 2**19, 2**20, 2**21: 32x32 517, 654, 684, 722;
# 64x64 146, 181, 198, 186; 224x224, where one image is more, 14.3, 14.6, 14.9, 15.2.
CHUNK_VALUES = 2**20


def make_frozen(
    params: Params,
    *,
    blocks: Sequence[str],
    image_size: int,
    dtype: DTypeLike = jnp.float32,
    platform: str | None = None,
) -> tuple[Params, Callable[[Params, Array], Array]]:
    """`(constant, apply_fn)`: `apply_fn(constant, images)` is what VGG16's `blocks` make of images.

    `params` holds at least the layers of `blocks`; images are float32 [batch, image_size,
    image_size, channels], as `VGG16` takes them. On a CPU (`platform` is by default the one JAX
    uses) kernels come Winograd-transformed, at `image_size` 224 five times as large, and every
    block walks the batch in chunks that fit the cache; elsewhere it is XLA's convolution over the
    whole batch. `dtype` is that of the arithmetic; features are float32 all the same. Jit
    `apply_fn` with `constant` as an argument: closed over, it slows compilation. Not made for
    gradients. Raises `ValueError` if `blocks` are not consecutive or the map vanishes, `KeyError`
    for a missing layer.

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
    # On a CPU only the tiles are of 16 bits: with the maps between the layers, too, 224x224 made
    # 10.9 images/s in bfloat16, without 17 to 18 (float32 13 to 14).
    between = jnp.float32 if on_cpu else dtype
    constant: Params = {}
    chunks = []
    for depth, names in enumerate(layers):
        size = image_size >> depth
        chunk = max(1, CHUNK_VALUES // (size * size * params[names[0]]["kernel"].shape[3]))
        chunks.append(chunk)
        for layer in names:
            kernel, bias = (jnp.asarray(params[layer][role]) for role in ("kernel", "bias"))
            if on_cpu and fits_winograd(kernel.shape):
                m = tile_size(chunk, size, size, kernel.shape[2] * kernel.shape[3], dtype)
                kernel = _freeze(kernel, m, dtype)
            else:
                kernel = kernel.astype(between)
            constant[layer] = {"kernel": kernel, "bias": bias.astype(between)}

    def apply_fn(constant: Params, images: Array) -> Array:
        def forward(images: Array) -> Array:
            for names, chunk in zip(layers, chunks, strict=True):
                block = partial(walk, [names], convolve=partial(_convolve, constant))
                images = _in_chunks(block, images, chunk) if on_cpu else block(images)
            return images

        images = images.astype(between)
        maps = _in_chunks(forward, images, max(chunks)) if on_cpu and chunks else forward(images)
        return maps.astype(jnp.float32)

    return constant, apply_fn


def maps_of_blocks(
    params: Params,
    images: UInt8[np.ndarray, "n height width channels"],
    *,
    blocks: Sequence[str],
    preprocess: Callable[[Array], Array],
) -> dict[str, np.ndarray]:
    """What each of `blocks` makes of `images` in turn: the map after its pooling, by its name."""
    maps, x = {}, preprocess(jnp.asarray(images))
    for block in blocks:
        constant, apply_fn = make_frozen(params, blocks=[block], image_size=x.shape[1])
        maps[block] = np.asarray(x := jax.jit(apply_fn)(constant, x))  # 305 operations in one
    return maps


_freeze = jax.jit(freeze_kernel, static_argnums=(1, 2))


def _convolve(constant: Params, layer: str, x: Array) -> Array:
    kernel, bias = constant[layer]["kernel"], constant[layer]["bias"]
    y = conv2d_frozen(x, kernel) if isinstance(kernel, tuple) else conv2d(x, kernel)
    return y + bias.reshape(1, 1, 1, -1)


def _in_chunks(fn: Callable[[Array], Array], x: Array, limit: int) -> Array:
    """`fn` of at most `limit` items at a time; chunks are equal, so that few are made up."""
    count = -(-len(x) // limit)
    if count <= 1:  # in a loop of one turn 64 images of 32x32 took 0.16 s, without it 0.12 s
        return fn(x)
    size = -(-len(x) // count)
    zeros = [(0, count * size - len(x))] + [(0, 0)] * (x.ndim - 1)
    chunks = jnp.pad(x, zeros).reshape(count, size, *x.shape[1:])
    return lax.collapse(lax.map(fn, chunks), 0, 2)[: len(x)]
