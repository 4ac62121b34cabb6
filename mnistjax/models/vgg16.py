"""VGG16's convolutions under Keras's names: all of them, or the part before or after a block."""

from collections.abc import Callable, Iterable, Sequence

from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mnistjax.models.layers import Conv
from mnistjax.models.vgg16_table import Table, table
from mnistjax.ops.pooling import max_pool


class VGG16(nnx.Module):
    """Consecutive blocks of VGG16, each 3x3 convolutions with ReLU, then 2x2 max-pooling.

    Maps float32 [batch, height, width, channels] to the last block's pooled map. From block1 on
    the input is what `weights.preprocess` makes; a later first block takes the pooled map of the
    block before it. The parameters are `{layer: {"kernel", "bias"}}`, as `load_weights` gives
    them; `dtype` is that of the arithmetic, by default theirs. Raises `ValueError` if `blocks` are
    not consecutive.

    >>> import jax.numpy as jnp
    >>> prefix = VGG16(blocks=["block1"], rngs=nnx.Rngs(0))
    >>> suffix = VGG16(blocks=["block2"], rngs=nnx.Rngs(0))
    >>> suffix(prefix(jnp.zeros((1, 32, 32, 3)))).shape
    (1, 8, 8, 128)
    """

    def __init__(
        self, *, blocks: Sequence[str], dtype: DTypeLike | None = None, rngs: nnx.Rngs
    ) -> None:
        self.layers = tuple(tuple(layers) for layers in convolutions(blocks).values())
        for layers in convolutions(blocks).values():
            for layer, shapes in layers.items():
                channels = shapes["kernel"][2:]
                he = nnx.initializers.he_normal()  # as `load_weights("random")`
                conv = Conv(*channels, (3, 3), kernel_init=he, dtype=dtype, rngs=rngs)
                setattr(self, layer, conv)

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height2 width2 channels2"]:
        return walk(self.layers, x, lambda layer, x: getattr(self, layer)(x))


def walk(
    blocks: Iterable[Iterable[str]], x: Array, convolve: Callable[[str, Array], Array]
) -> Array:
    """`x` through the layers of `blocks`; `convolve(layer, x)` is convolution and bias."""
    for layers in blocks:
        *inner, last = layers
        for layer in inner:
            x = nnx.relu(convolve(layer, x))
        x = nnx.relu(max_pool(convolve(last, x)))  # ReLU keeps order: a quarter of the work
    return x


def convolutions(blocks: Sequence[str]) -> dict[str, Table]:
    """Block -> its layers and their shapes. Raises `ValueError` if they are not consecutive.

    >>> {block: list(layers) for block, layers in convolutions(["block1", "block2"]).items()}
    {'block1': ['block1_conv1', 'block1_conv2'], 'block2': ['block2_conv1', 'block2_conv2']}
    """
    whole: dict[str, Table] = {}
    for layer, shapes in table().items():
        whole.setdefault(layer.partition("_")[0], {})[layer] = shapes
    names = list(whole)
    first = names.index(blocks[0]) if blocks and blocks[0] in names else 0
    if list(blocks) != names[first : first + len(blocks)]:
        raise ValueError(f"blocks {list(blocks)}: must be consecutive ones of {', '.join(names)}")
    return {block: whole[block] for block in blocks}


def map_shape(input_shape: tuple[int, int, int], blocks: Sequence[str]) -> tuple[int, int, int]:
    """What `blocks` make of one input [height, width, channels].

    Raises `ValueError` for channels that the first block does not take, or if the map vanishes.

    >>> map_shape((32, 32, 3), ["block1", "block2", "block3"])
    (4, 4, 256)
    """
    height, width, channels = input_shape
    for block, layers in convolutions(blocks).items():
        kernels = [shapes["kernel"] for shapes in layers.values()]
        if channels != kernels[0][2] or min(height, width) < 2:
            raise ValueError(
                f"{block} of a {height}x{width}x{channels} map: it takes {kernels[0][2]} channels"
                " and at least 2x2 places"
            )
        height, width, channels = height // 2, width // 2, kernels[-1][3]
    return height, width, channels
