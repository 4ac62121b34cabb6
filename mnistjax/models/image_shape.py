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


def check_poolings(image_shape: tuple[int, int, int], smallest: int, *, what: str) -> None:
    """Raise `DataError` for images of which the two poolings of `what` would leave no pixel.

    >>> check_poolings((8, 28, 1), 10, what="CNN")
    Traceback (most recent call last):
    mnistjax.errors.DataError: images of 8x28: the two poolings of the CNN need at least 10x10. Fix: enlarge the images, or train a model of your own
    """  # noqa: E501
    height, width, _ = image_shape
    if min(height, width) < smallest:
        why = f"the two poolings of the {what} need at least {smallest}x{smallest}"
        fix = "enlarge the images, or train a model of your own"
        raise DataError(f"images of {height}x{width}", why, fix=fix)
