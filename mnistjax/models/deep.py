"""The deep CNN: five convolutions, for the best accuracy that minutes on a CPU can buy."""

from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mnistjax.models.image_shape import check_image_shape, check_poolings
from mnistjax.models.layers import Conv, ConvPool

SMALLEST = 12  # 12 -> 10 -> 5 -> 3 -> 1; less leaves no pixel to the dense layers


class DeepCNN(nnx.Module):
    """Conv 32, conv 32 and pool, conv 64, conv 64 and pool, conv 128, dense 128, dense classes.

    All 3x3, ReLU between; seven times the arithmetic of `CNN`, and like it without state, so that
    a CPU takes its batches in portions that stay in the cache. Maps images [batch, height, width,
    channels] of float32 in 0..1 to logits. Any `image_shape` of at least 12x12; smaller ones, and
    then images of another shape, are a `DataError`. `dtype` as in `CNN`.

    >>> import jax.numpy as jnp
    >>> model = DeepCNN(rngs=nnx.Rngs(0))
    >>> model(jnp.zeros((2, 28, 28, 1))).shape
    (2, 10)
    """

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (28, 28, 1),
        num_classes: int = 10,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        check_poolings(image_shape, SMALLEST, what="deep CNN")
        self.image_shape = tuple(image_shape)
        self.conv1 = Conv(image_shape[2], 32, (3, 3), dtype=dtype, rngs=rngs)
        self.conv2 = ConvPool(32, 32, (3, 3), dtype=dtype, rngs=rngs)
        self.conv3 = Conv(32, 64, (3, 3), dtype=dtype, rngs=rngs)
        self.conv4 = ConvPool(64, 64, (3, 3), dtype=dtype, rngs=rngs)
        self.conv5 = Conv(64, 128, (3, 3), dtype=dtype, rngs=rngs)
        height, width = (((size - 2) // 2 - 2) // 2 for size in image_shape[:2])
        self.dense1 = nnx.Linear(height * width * 128, 128, dtype=dtype, rngs=rngs)
        self.dense2 = nnx.Linear(128, num_classes, dtype=dtype, rngs=rngs)

    def __call__(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch classes"]:
        check_image_shape(images, self.image_shape, what="DeepCNN")
        x = self.conv2(nnx.relu(self.conv1(images)))
        x = self.conv4(nnx.relu(self.conv3(x)))
        x = nnx.relu(self.conv5(x))
        x = nnx.relu(self.dense1(x.reshape(x.shape[0], -1)))
        return self.dense2(x)
