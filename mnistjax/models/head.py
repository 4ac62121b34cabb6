"""What is trained on VGG16's maps: a classifier, and with it perhaps the last blocks."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mnistjax.models.image_shape import check_image_shape
from mnistjax.models.vgg16 import VGG16, map_shape

Kind = Literal["flatten", "gap"]


def as_vector(
    x: Float[Array, "batch height width channels"], kind: Kind
) -> Float[Array, "batch features"]:
    """A map as a vector: all of it, rows then columns then channels, or each channel's mean.

    >>> x = jnp.ones((2, 4, 4, 8))
    >>> as_vector(x, "flatten").shape, as_vector(x, "gap").shape
    ((2, 128), (2, 8))
    """
    return x.reshape(x.shape[0], -1) if kind == "flatten" else x.mean((1, 2))


class Standardise(nnx.Module):
    """(x - mean) * scale for each feature; nothing happens until both are filled in.

    In float32, whatever x is: of a feature that hardly varies a bfloat16 difference is noise, and
    the scale is large.

    Statistics (`frozen.statistics.mean_and_scale`) of the training features, not
    weights: a freeze mask has to keep them as they are.

    >>> Standardise(3)(jnp.ones((1, 3))).tolist()
    [[1.0, 1.0, 1.0]]
    """

    def __init__(self, size: int) -> None:
        self.mean = nnx.Param(jnp.zeros(size))
        self.scale = nnx.Param(jnp.ones(size))

    def __call__(self, x: Float[Array, "batch features"]) -> Float[Array, "batch features"]:
        x = x.astype(self.mean.dtype)
        return (x - self.mean[...].reshape(1, -1)) * self.scale[...].reshape(1, -1)


class Hidden(NamedTuple):
    """The head's hidden layer: its width, and the share of its values left out in training."""

    width: int = 256
    dropout: float = 0.0


class Head(nnx.Module):
    """Flatten or global average pooling, a `hidden` dense layer, ReLU, dense `num_classes`.

    Maps float32 `[batch, *map_shape]` to logits. `dtype` is that of the dense layers and the
    logits, by default the parameters'. With `standardise` the features pass through `Standardise`
    first, whose parameters are `standardise/mean` and `standardise/scale`. One with dropout is for
    `functional_with_state`.

    >>> head = Head(map_shape=(4, 4, 256), rngs=nnx.Rngs(0))
    >>> head(jnp.zeros((2, 4, 4, 256))).shape
    (2, 10)
    """

    def __init__(
        self,
        *,
        map_shape: tuple[int, int, int],
        num_classes: int = 10,
        kind: Kind = "flatten",
        standardise: bool = False,
        hidden: tuple = Hidden(),
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        size = math.prod(map_shape) if kind == "flatten" else map_shape[2]
        self.kind: Kind = kind
        self.standardise = Standardise(size) if standardise else None
        width, dropout = Hidden(*hidden)
        self.dense1 = nnx.Linear(size, width, dtype=dtype, rngs=rngs)
        self.dense2 = nnx.Linear(width, num_classes, dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(dropout, rngs=rngs) if dropout else None

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch classes"]:
        y = as_vector(x, self.kind)
        if self.standardise is not None:
            y = self.standardise(y)
        y = nnx.relu(self.dense1(y))
        return self.dense2(y if self.dropout is None else self.dropout(y))


class FineTuned(nnx.Module):
    """The last `blocks` of a VGG16, possibly none, and a `Head` on their map.

    Maps float32 [batch, *input_shape], the image or a frozen part's map, to logits. Parameters
    are `{"backbone": {layer: ...}, "head": {...}}`, without "backbone" when there are no blocks.
    `num_classes`, `kind`, `standardise` and `hidden` are those of `Head`.
    Raises `ValueError` if `blocks` are not consecutive or do not fit `input_shape`, and `DataError`
    for images of another shape.

    >>> model = FineTuned(input_shape=(8, 8, 128), blocks=["block3"], rngs=nnx.Rngs(0))
    >>> model(jnp.zeros((2, 8, 8, 128))).shape
    (2, 10)
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, int, int],
        blocks: Sequence[str] = (),
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
        **head: Any,
    ) -> None:
        self.input_shape = tuple(input_shape)
        # The head first: it then starts the same whichever blocks are trained with it.
        self.head = Head(map_shape=map_shape(input_shape, blocks), dtype=dtype, rngs=rngs, **head)
        self.backbone = VGG16(blocks=blocks, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch classes"]:
        check_image_shape(x, self.input_shape, what="network")
        return self.head(self.backbone(x))
