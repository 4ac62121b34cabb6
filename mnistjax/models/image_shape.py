"""Images of the size that a network was made for, and of no other."""

from jaxtyping import Array

from mnistjax.errors import DataError


def check_image_shape(images: Array, made: tuple[int, ...], *, what: str) -> None:
    """Raise `DataError` unless every image is of the shape `made`.

    Of larger ones some networks would see a corner, and answer without a word.

    >>> import jax.numpy as jnp
    >>> check_image_shape(jnp.zeros((2, 56, 56, 1)), (28, 28, 1), what="CNN")
    Traceback (most recent call last):
    mnistjax.errors.DataError: images of 56x56x1: this CNN was made for 28x28x1. Fix: resize them, or make a CNN for theirs
    """  # noqa: E501
    if tuple(images.shape[1:]) == tuple(made):
        return
    got, wanted = ("x".join(map(str, shape)) for shape in (images.shape[1:], made))
    fix = f"resize them, or make a {what} for theirs"
    raise DataError(f"images of {got}", f"this {what} was made for {wanted}", fix=fix)
