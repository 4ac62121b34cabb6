"""Pixels as VGG16's weights expect them; Keras's: BGR, minus means, never divided by 255."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, UInt8

from mnistjax.errors import DataError

BGR_MEANS = (103.939, 116.779, 123.68)
RGB_MEANS, RGB_DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def caffe(images: Float32[Array, "n h w 3"]) -> Float32[Array, "n h w 3"]:
    """RGB 0..255 to BGR minus `BGR_MEANS`, without scaling: what Caffe, hence Keras, trained on.

    >>> [round(value, 3) for value in caffe(jnp.zeros((1, 1, 1, 3))).ravel().tolist()]
    [-103.939, -116.779, -123.68]
    """
    return images[..., ::-1] - jnp.array(BGR_MEANS, jnp.float32).reshape(1, 1, 1, 3)


def torch(images: Float32[Array, "n h w 3"]) -> Float32[Array, "n h w 3"]:
    """RGB 0..255 to RGB / 255 minus `RGB_MEANS`, over `RGB_DEVIATIONS`: torchvision's.

    >>> [round(value, 3) for value in torch(jnp.full((1, 1, 1, 3), 255.0)).ravel().tolist()]
    [2.249, 2.429, 2.64]
    """
    means, deviations = (
        jnp.array(of, jnp.float32).reshape(1, 1, 1, 3) for of in (RGB_MEANS, RGB_DEVIATIONS)
    )
    return (images / 255 - means) / deviations


def to_vgg_input(
    images: UInt8[Array, "n h w c"], *, size: int, pixels: str = "caffe"
) -> Float32[Array, "n {size} {size} 3"]:
    """Grey or RGB pixels to `size` x `size` as VGG16 takes them; pure, made for jit.

    `pixels` is "caffe" for Keras's weights, "torch" for torchvision's: see `Weights.pixels`.

    Resizing is bilinear with antialias=False: MNIST is enlarged, where it makes no difference; an
    image made smaller is sampled, as by `keras.layers.Resizing`. Raises `DataError` for a number
    of channels that is neither 1 nor 3.

    >>> to_vgg_input(jnp.zeros((2, 28, 28, 1), jnp.uint8), size=32).shape
    (2, 32, 32, 3)
    """
    count, _, _, channels = images.shape
    if channels not in (1, 3):
        why = f"{channels} channels, and VGG16 takes 1 (grey) or 3 (RGB)"
        raise DataError("images", why, fix="convert them to grey or RGB")
    resized = jax.image.resize(
        images.astype(jnp.float32),
        (count, size, size, channels),
        method="bilinear",
        antialias=False,
    )
    prepare = {"caffe": caffe, "torch": torch}[pixels]
    return prepare(jnp.broadcast_to(resized, (count, size, size, 3)))
