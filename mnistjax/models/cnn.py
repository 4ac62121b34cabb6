"""The small CNN: two convolutions, two dense layers, 225,034 parameters on 28x28x1."""

from flax import nnx
from jaxtyping import Array, Float

from mnistjax.ops.pooling import max_pool_2x2


class CNN(nnx.Module):
    """Conv 3x3 32, pool, conv 3x3 64, pool, dense 128, dense `num_classes`; ReLU between.

    Maps images [batch, height, width, channels] of float32 in 0..1 to logits. Any `image_shape`
    of at least 10x10.

    >>> import jax.numpy as jnp
    >>> model = CNN(rngs=nnx.Rngs(0))
    >>> model(jnp.zeros((2, 28, 28, 1))).shape
    (2, 10)
    """

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (28, 28, 1),
        num_classes: int = 10,
        rngs: nnx.Rngs,
    ) -> None:
        height, width, channels = ((image_shape[0] - 2) // 2, (image_shape[1] - 2) // 2, 64)
        height, width = (height - 2) // 2, (width - 2) // 2
        self.conv1 = nnx.Conv(image_shape[2], 32, (3, 3), padding="VALID", rngs=rngs)
        self.conv2 = nnx.Conv(32, channels, (3, 3), padding="VALID", rngs=rngs)
        self.dense1 = nnx.Linear(height * width * channels, 128, rngs=rngs)
        self.dense2 = nnx.Linear(128, num_classes, rngs=rngs)

    def __call__(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch classes"]:
        # ReLU keeps order, so pooling first gives the same numbers with a quarter of the ReLUs.
        x = nnx.relu(max_pool_2x2(self.conv1(images)))
        x = nnx.relu(max_pool_2x2(self.conv2(x)))
        x = nnx.relu(self.dense1(x.reshape(len(x), -1)))
        return self.dense2(x)
