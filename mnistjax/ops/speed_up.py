"""The fast operations put into a whole model."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array

from mnistjax.ops.batch_norm import batch_norm
from mnistjax.ops.general import conv_general_dilated


def speed_up(model: nnx.Module) -> list[str]:
    """Let `model` use our operations where they are faster; the paths of the layers changed.

    Every `nnx.Conv` uses `conv_general_dilated`, every `nnx.BatchNorm` is a `BatchNorm` of ours. A
    layer that has an operation of its own keeps it. The parameters are untouched.

    >>> model = nnx.Sequential(nnx.Conv(1, 8, (3, 3), rngs=nnx.Rngs(0)), nnx.relu)
    >>> speed_up(model), speed_up(model)
    (['layers/0'], [])
    """
    changed = []
    for path, module in nnx.iter_modules(model):
        if isinstance(module, nnx.Conv) and module.conv_general_dilated is lax.conv_general_dilated:
            module.conv_general_dilated = conv_general_dilated
        elif type(module) is nnx.BatchNorm:
            module.__class__ = BatchNorm  # it has the same parameters, statistics and settings
        else:
            continue
        changed.append("/".join(map(str, path)))
    return changed


class BatchNorm(nnx.BatchNorm):
    """Flax's own, whose statistics of a batch and gradient are `batch_norm`.

    With a mask, an `axis_name`, another axis than the last, only two axes, the slow variance, or
    without scale or bias, all of it is Flax's.
    """

    def __call__(
        self, x: Array, use_running_average: bool | None = None, *, mask: Array | None = None
    ) -> Array:
        running = self.use_running_average if use_running_average is None else use_running_average
        if running is not False or mask is not None or not self._plain(x):
            return super().__call__(x, use_running_average, mask=mask)
        own = (x, self.mean[...], self.var[...], self.scale[...], self.bias[...])  # type: ignore
        x, _, _, scale, bias = self.promote_dtype(own, dtype=self.dtype)
        y, *batch = batch_norm(x, scale, bias, epsilon=self.epsilon)
        for kept, now in zip((self.mean, self.var), batch, strict=True):
            kept[...] = lax.stop_gradient(self.momentum * kept[...] + (1 - self.momentum) * now)
        return y

    def _plain(self, x: Any) -> bool:
        there = self.scale is not None and self.bias is not None and self.axis_name is None
        last = self.axis in (-1, x.ndim - 1) and x.ndim > 2
        real = jnp.issubdtype(x.dtype, jnp.floating)
        return there and last and real and self.use_fast_variance
