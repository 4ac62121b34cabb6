"""What a fine-tuning begins with: the weights of its blocks, and its head's inputs standardised."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mnistjax.data.dataset import Split
from mnistjax.frozen.statistics import fill_in_statistics
from mnistjax.models.functional import ApplyFn, ModelState, Params
from mnistjax.models.head import FineTuned
from mnistjax.runs.train import as_functions


def begin_finetuned(
    model: FineTuned, weights: Params, train: Split, on_host: Callable[[np.ndarray], np.ndarray]
) -> tuple[ApplyFn, Params, ModelState]:
    """`model` as a function and its arrays: blocks have `weights`, the head is as it was made.

    If it standardises, then by what `on_host` makes of the images of `train`: what `model` takes.
    """
    apply_fn, params, model_state = as_functions(model)
    if "backbone" in params:
        weights = {layer: weights[layer] for layer in params["backbone"]}
        params["backbone"] = jax.tree.map(jnp.asarray, weights)
    if model.head.standardise is not None:
        fill_in_statistics(params, model, train, on_host)
    return apply_fn, params, model_state
