"""From a recipe and a new network to what a run computes."""

from typing import Any

from mnistjax.data.augment import augmentation_of
from mnistjax.data.batches import steps_per_epoch
from mnistjax.data.dataset import Split
from mnistjax.runs.best import by_accuracy, by_loss
from mnistjax.runs.plan import Plan, Stage
from mnistjax.runs.recipes import Recipe
from mnistjax.runs.train import Model, as_functions
from mnistjax.training.losses import LossFn


def plan_of(
    recipe: Recipe,
    model: Model,
    splits: tuple[Split, Split | None],
    *,
    epochs: int,
    seed: int,
    photos: bool,
    loss_fn: LossFn,
    **more: Any,
) -> Plan:
    """Train `model` by `recipe`, for `epochs`, on the first of `splits`; the second chooses.

    `photos` may be mirrored, characters may not (`parse_augmentation`). `loss_fn` as it is, so
    smoothed if it is to be; `more` are other fields of the plan.
    """
    train, validation = splits
    steps = steps_per_epoch(len(train.labels), recipe.batch_size)
    stage = Stage.by_adam(epochs, recipe.learning_rate)
    if recipe.one_cycle:
        stage = Stage.by_one_cycle(epochs, recipe.learning_rate, steps=steps)
    apply_fn, params, model_state = as_functions(model)
    return Plan(
        apply_fn=apply_fn,
        params=params,
        stages=[stage],
        train=train,
        validation=validation,
        model_state=model_state,
        batch_size=recipe.batch_size,
        seed=seed,
        loss_fn=loss_fn,
        score=by_accuracy if recipe.label_smoothing else by_loss,
        augment=augmentation_of(recipe.augment, photos=photos),
        **more,
    )
