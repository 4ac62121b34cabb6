"""The small CNN: two convolutions, two dense layers, 225,034 parameters on 28x28x1."""

from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mnistjax.models.image_shape import check_image_shape, check_poolings
from mnistjax.models.layers import ConvPool, read_sizes
from mnistjax.ops.kinds import Pool
from mnistjax.ops.normalization import local_response_norm

SMALLEST = 10  # 10 -> 8 -> 4 -> 2 -> 1; less leaves no pixel to the dense layers


class CNN(nnx.Module):
    """Conv 3x3 32, pool, conv 3x3 64, pool, dense 128, dense `num_classes`; ReLU between.

    Maps images [batch, height, width, channels] of float32 in 0..1 to logits. Any `image_shape`
    of at least 10x10; smaller ones, and then images of another shape, are a `DataError`. `lrn`
    normalises both pooled maps (`ops.local_response_norm`).

    `dtype` is that of the arithmetic and the logits, as in Flax: with bfloat16, which is fast on a
    GPU or TPU, parameters, gradients and loss stay float32 (Micikevicius et al. 2018,
    arXiv:1710.03740; bfloat16 has float32's range, so no loss is scaled).

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
        pool: Pool = "max",
        lrn: bool = False,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        check_poolings(image_shape, SMALLEST, what="CNN")
        self.image_shape = tuple(image_shape)
        rows, columns = (read_sizes(size, [3, 3]) for size in image_shape[:2])
        self.size1, self.size2 = zip(rows, columns, strict=True)
        self.lrn = lrn
        self.conv1 = ConvPool(image_shape[2], 32, (3, 3), pool=pool, dtype=dtype, rngs=rngs)
        self.conv2 = ConvPool(32, 64, (3, 3), pool=pool, dtype=dtype, rngs=rngs)
        size = self.size2[0] * self.size2[1] * 64
        self.dense1 = nnx.Linear(size, 128, dtype=dtype, rngs=rngs)
        self.dense2 = nnx.Linear(128, num_classes, dtype=dtype, rngs=rngs)

    def __call__(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch classes"]:
        check_image_shape(images, self.image_shape, what="CNN")
        normalise = local_response_norm if self.lrn else lambda x: x
        x = normalise(self.conv1(images, self.size1))
        x = normalise(self.conv2(x, self.size2))
        x = nnx.relu(self.dense1(x.reshape(x.shape[0], -1)))
        return self.dense2(x)
