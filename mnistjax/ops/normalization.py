"""Local response normalisation: neighbouring channels inhibit each other."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


@partial(jax.jit, static_argnames=("n", "k", "alpha", "beta"), inline=True)
def local_response_norm(
    x: Float[Array, "batch height width channels"],
    *,
    n: int = 5,
    k: float = 2.0,
    alpha: float = 1e-4,
    beta: float = 0.75,
) -> Float[Array, "batch height width channels"]:
    """x / (k + alpha * sum of x^2 over n neighbouring channels) ** beta.

    Krizhevsky, Sutskever and Hinton (2012), section 3.3, with their constants. For an even n one
    more channel counts below than above. PyTorch's `LocalResponseNorm` divides alpha by n: pass it
    alpha * n. TensorFlow's `depth_radius` is n // 2, its `bias` k.
    Raises `ValueError` for n < 1 or k <= 0.

    >>> local_response_norm(jnp.ones((1, 1, 1, 3)), n=3, k=1.0, alpha=1.0, beta=1.0).ravel()
    Array([0.33333334, 0.25      , 0.33333334], dtype=float32)
    """
    if n < 1 or k <= 0:
        raise ValueError(f"n {n}, k {k}: n must be at least 1 and k positive")
    squares = x * x
    low, high, channels = n // 2, (n - 1) // 2, x.shape[-1]
    padded = lax.pad(squares, jnp.zeros((), x.dtype), [(0, 0, 0)] * 3 + [(low, high, 0)])
    # A sum of n slices: its gradient is slices again, which `lax.reduce_window`'s is not.
    total = sum(padded[..., i : i + channels] for i in range(n))
    return x * (k + alpha * total) ** -beta
