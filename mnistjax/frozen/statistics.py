"""Mean and scale of every feature, for inputs of mean 0 and variance 1."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float32, Integer

from mnistjax.data.dataset import Split
from mnistjax.models.functional import Params
from mnistjax.models.head import FineTuned, as_vector

SAMPLE = 8192  # training examples whose features give mean and scale
CHUNK_VALUES = 2**20  # 8 MB as float64: features may be larger than the memory


def mean_and_scale(
    features: Float32[np.ndarray, "n *row"], *, rows: Integer[np.ndarray, " m"] | None = None
) -> tuple[Float32[np.ndarray, "*row"], Float32[np.ndarray, "*row"]]:
    """Mean and 1 / standard deviation of each feature, over all rows or the chosen ones.

    Read once, in chunks, summed in float64. The scale of a feature that is constant to float32's
    precision is 1. Choose the training rows: statistics of others would leak into training.

    >>> mean, scale = mean_and_scale(np.array([[1, 5], [3, 5]], np.float32))
    >>> mean.tolist(), scale.tolist()
    ([2.0, 5.0], [1.0, 1.0])
    """
    order = np.arange(len(features)) if rows is None else np.sort(rows)
    step = max(1, CHUNK_VALUES // max(1, features[:1].size))
    count, mean, squares = 0, np.float64(0), np.float64(0)
    for start in range(0, len(order), step):
        chosen = order[start : start + step]
        chunk = features[chosen].astype(np.float64)
        # Chan's merge of two sets: sums of squares about the mean, not about 0, lose no digits.
        total = count + len(chunk)
        shift = chunk.mean(axis=0) - mean
        squares = squares + ((chunk - chunk.mean(axis=0)) ** 2).sum(axis=0)
        squares = squares + shift**2 * (count * len(chunk) / total)
        mean = mean + shift * (len(chunk) / total)
        count = total
    deviation = np.sqrt(squares / count)
    least = np.maximum(1e-6 * np.abs(mean), np.finfo(np.float32).tiny)
    scale = np.where(deviation > least, 1 / np.maximum(deviation, least), 1)
    return np.asarray(mean, np.float32), np.asarray(scale, np.float32)


def fill_in_statistics(
    params: Params, model: FineTuned, train: Split, on_host: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Put mean and scale of the head's inputs on a sample of the training examples in `params`.

    `on_host` makes of images what `model` takes: the frozen part's features.
    """
    chosen = np.linspace(0, len(train.labels) - 1, min(SAMPLE, len(train.labels))).astype(int)
    sample = train.take(chosen)
    graphdef, _ = nnx.split(model.backbone)

    @jax.jit
    def head_inputs(backbone: Params, maps: jax.Array) -> jax.Array:
        return as_vector(nnx.merge(graphdef, backbone)(maps), model.head.kind)

    rows = []
    for start in range(0, len(chosen), 256):
        maps = jnp.asarray(on_host(np.asarray(sample.images[start : start + 256])))
        rows.append(np.asarray(head_inputs(params.get("backbone", {}), maps)))
    mean, scale = mean_and_scale(np.concatenate(rows))
    params["head"]["standardise"] = {"mean": jnp.asarray(mean), "scale": jnp.asarray(scale)}
