"""The fast operations put into a whole model."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array

from mnistjax.ops.batch_norm import batch_norm
from mnistjax.ops.general import conv_general_dilated
from mnistjax.ops.transposed import conv_transpose


def speed_up(model: nnx.Module) -> list[str]:
    """Let `model` use our operations where they are faster; the paths of the layers changed.

    Every `nnx.Conv` uses `conv_general_dilated`, every `nnx.ConvTranspose` and `nnx.BatchNorm` is
    one of ours. A layer that has an operation of its own keeps it. The parameters are untouched.

    >>> model = nnx.Sequential(nnx.Conv(1, 8, (3, 3), rngs=nnx.Rngs(0)), nnx.relu)
    >>> speed_up(model), speed_up(model)
    (['layers/0'], [])
    """
    changed = []
    for path, module in nnx.iter_modules(model):
        if isinstance(module, nnx.Conv) and module.conv_general_dilated is lax.conv_general_dilated:
            module.conv_general_dilated = conv_general_dilated
        elif ours := {nnx.BatchNorm: BatchNorm, nnx.ConvTranspose: ConvTranspose}.get(type(module)):
            module.__class__ = ours  # it has the same parameters, statistics and settings
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


class ConvTranspose(nnx.ConvTranspose):
    """Flax's own, which has no place for another operation, with `conv_transpose`.

    With a mask, padding that is circular or a number, or batches of batches, it is Flax's.
    """

    def __call__(self, inputs: Array) -> Array:
        padding = self.padding
        pairs = not isinstance(padding, str | int) and all(not isinstance(p, int) for p in padding)
        if inputs.ndim != 4 or self.mask is not None or not (pairs or padding in ("SAME", "VALID")):
            return super().__call__(inputs)
        kernel, bias = self.kernel[...], None if self.bias is None else self.bias[...]
        x, kernel, bias = self.promote_dtype((inputs, kernel, bias), dtype=self.dtype)
        y = conv_transpose(
            x,
            kernel,
            _pair(self.strides),
            padding,  # type: ignore
            _pair(self.kernel_dilation),
            transpose_kernel=self.transpose_kernel,
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
        )
        return y if bias is None else y + jnp.reshape(bias, (1, 1, 1, -1))


def _pair(of: int | Sequence[int] | None) -> Sequence[int]:
    return (1, 1) if of is None else (of, of) if isinstance(of, int) else of
