"""Max-pooling 2x2, stride 2, without XLA:CPU's slow window gradient."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def max_pool_2x2(
    x: Float[Array, "batch height width channels"],
) -> Float[Array, "batch height//2 width//2 channels"]:
    """The largest of each 2x2 block; an odd last row or column is dropped ("valid" padding).

    Equals `flax.nnx.max_pool(x, (2, 2), (2, 2))`, written as the maximum of four strided slices:
    for a batch of 128 of the small CNN's maps its gradient takes 5 ms on two CPU cores, that of
    `lax.reduce_window` 73 ms. Equal values share the gradient; a window sends it to the first.

    >>> max_pool_2x2(jnp.arange(16.0).reshape(1, 4, 4, 1)).ravel().tolist()
    [5.0, 7.0, 13.0, 15.0]
    """
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    x = x[:, :height, :width]
    top = jnp.maximum(x[:, ::2, ::2], x[:, ::2, 1::2])
    bottom = jnp.maximum(x[:, 1::2, ::2], x[:, 1::2, 1::2])
    return jnp.maximum(top, bottom)
