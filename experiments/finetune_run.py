"""From the flags of fine-tuning to a fine-tuned VGG16 and its report."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments import common
from experiments.finetune_flags import FinetuneConfig
from mnistjax.data.batches import steps_per_epoch
from mnistjax.data.dataset import Dataset, Split
from mnistjax.frozen.features import Features, FrozenPart, frozen_features, saving
from mnistjax.frozen.forward import maps_of_blocks
from mnistjax.frozen.statistics import fill_in_statistics
from mnistjax.models.described import describe
from mnistjax.models.functional import Params, functional
from mnistjax.models.head import FineTuned, Kind
from mnistjax.models.summary import LayerRow
from mnistjax.models.summary_finetuned import summarise_finetuned
from mnistjax.models.vgg16 import map_shape
from mnistjax.report.activations import activations_figure
from mnistjax.runs.best import by_accuracy, by_loss
from mnistjax.runs.finetune_recipes import WHY
from mnistjax.runs.finetune_stages import Adam, one_stage, several_stages
from mnistjax.runs.plan import Plan, Stage
from mnistjax.runs.result import About
from mnistjax.runs.settings import Setting, setting_of_epochs, settings_for
from mnistjax.runs.stages_text import blocks_of, parse_stages, trained_blocks
from mnistjax.runs.train_run import Trained, train_run
from mnistjax.training.batch_size import usual_epochs
from mnistjax.weights.pixels import PIXELS
from mnistjax.weights.source import SOURCES, Weights, load_weights


def finetune(config: FinetuneConfig, directory: Path) -> Dataset:
    """The whole run; returned is what it was scored on."""
    recipe = config.recipe
    trained = trained_blocks(config.trained_names, recipe.cut)
    frozen = [block for block in blocks_of(recipe.cut) if block not in trained]
    data = common.load_data(config, image_size=recipe.image_size)
    examples = common.chosen_train(config, data)
    checked, _ = common.split_off_validation(config, examples, data)  # before the hours of features
    config, batch_size = common.fitted(config, len(checked.labels))
    source = config.weights if config.weights in SOURCES else Path(config.weights)
    weights = load_weights(source, cut=recipe.cut, seed=config.seed, quiet=config.quiet)
    common.say_loudly(config, weights.notice)
    own = [data.validation] if data.validation else []
    got = features_of(config, weights, frozen, [examples, data.test, *own])
    seen = replace(data, validation=got.splits[2]) if own else data
    train, validation = common.split_off_validation(config, got.splits[0], seen)
    model = FineTuned(
        input_shape=map_shape((recipe.image_size, recipe.image_size, 3), frozen),
        blocks=trained,
        num_classes=len(data.class_names),
        kind=cast(Kind, config.head),
        standardise=recipe.standardise,
        dtype=config.dtype,
        rngs=nnx.Rngs(config.seed),
    )
    apply_fn, params = functional(model)
    if trained:
        params["backbone"] = jax.tree.map(
            jnp.asarray, {layer: weights.params[layer] for layer in params["backbone"]}
        )
    if recipe.standardise:
        fill_in_statistics(params, model, train, got.through)
    layers = summarise_finetuned(
        model, frozen, image_size=recipe.image_size, trains=config.trained_names
    )
    plan = Plan(
        apply_fn=apply_fn,
        params=params,
        stages=make_stages(config, params, len(train.labels), batch_size),
        train=train,
        validation=validation,
        batch_size=batch_size,
        seed=config.seed,
        preprocess=lambda maps: maps,
        through=got.through,
        loss_fn=common.loss_of(config, train.labels, data, recipe.label_smoothing),
        score=by_accuracy if recipe.label_smoothing else by_loss,
        early_stopping=config.early_stopping,
    )
    common.banner(config, directory, (train, validation, data), plan.epochs)
    common.show_model(config, layers, f"recipe {config.preset}: {WHY[config.preset]}")
    saved = saving(got.facts, train_examples=len(train.labels), epochs=plan.epochs)
    common.say(config, f"weights: {weights.origin} · {saved}")
    settings = settings_for(config, data, epochs_setting(config, plan))
    settings["weights_sha256"] = Setting(weights.sha256, given_by=("weights",))
    options = common.run_options(config, directory)
    result = train_run(plan, directory, settings=settings, options=options)
    about = about_run(config, data, weights, got, result, layers, plan, model)
    examined = (examples, got.splits[0]) if config.find_mislabelled else None
    return common.finish(config, directory, result, replace(about, examined=examined))


def features_of(
    config: FinetuneConfig, weights: Weights, frozen: list[str], splits: list[Split]
) -> Features:
    """What the frozen blocks make of `splits`, cached if the flags allow it."""
    part = FrozenPart(
        params=weights.params,
        blocks=frozen,
        preprocess=weights.preprocess(config.recipe.image_size),
        image_size=config.recipe.image_size,
        dtype=config.dtype,
        pixels=weights.pixels,
    )
    limit = round(config.cache_limit * 2**30) if config.cache_features else None
    got = frozen_features(part, splits, limit_bytes=limit, quiet=config.quiet)
    if why := got.facts.get("why"):
        raises = " (--cache-limit)" if "limit" in why else ""
        common.say_loudly(config, f"{why}{raises}: not cached, computed in every epoch")
    return got


def make_stages(config: FinetuneConfig, params: Params, count: int, batch_size: int) -> list[Stage]:
    """The stages that the flags ask for, of `count` examples an epoch."""
    steps, recipe = steps_per_epoch(count, batch_size), config.recipe
    adam = Adam(config.filled_in["learning_rate"], recipe.weight_decay, recipe.cosine)
    if config.stages is not None:
        return several_stages(params, parse_stages(config.stages, recipe.cut), adam, steps=steps)
    epochs = max(recipe.epochs, usual_epochs(count, batch_size))
    epochs = config.epochs or epochs
    return one_stage(params, config.trained_names, adam, epochs=epochs, steps=steps)


def epochs_setting(config: FinetuneConfig, plan: Plan) -> Setting:
    """How many there are; stages say so themselves."""
    if config.stages is not None:
        return Setting(None, may_change=True)
    return setting_of_epochs(plan.epochs, falls="to 0" if config.recipe.cosine else "")


def about_run(
    config: FinetuneConfig,
    data: Dataset,
    weights: Weights,
    got: Features,
    result: Trained,
    layers: list[LayerRow],
    plan: Plan,
    model: FineTuned,
) -> About:
    """What the report says: the whole model, its first filters, and what the blocks see."""
    recipe = config.recipe
    backbone: dict[str, Any] = weights.params | result.params.get("backbone", {})
    shown = data.test.images[np.unique(data.test.labels, return_index=True)[1][:5]]
    preprocess, blocks = weights.preprocess(recipe.image_size), blocks_of(recipe.cut)
    maps = maps_of_blocks(backbone, shown, blocks=blocks, preprocess=preprocess)
    described = describe(model)
    frozen = {"blocks": [block for block in blocks if block not in described["blocks"]]}
    frozen |= {"image_size": recipe.image_size, "pixels": weights.pixels, "dtype": config.dtype}
    facts = {"weights": weights.origin, "weights_sha256": weights.sha256}
    facts |= {"preprocessing": PIXELS[weights.pixels]}
    facts |= {name: getattr(config, name) for name in ("head", "preset")}
    names = "image_size", "cut", "weight_decay", "label_smoothing"
    facts |= {name: getattr(recipe, name) for name in names}
    facts |= {"unfrozen": ", ".join(config.trained_names), "feature_cache": got.facts}
    return About(
        data=data,
        layers=layers,
        train_examples=len(plan.train.labels),
        validation_examples=plan.held_out,
        network=described | {"frozen": frozen},
        facts=common.shared_facts(config) | facts,
        scored=got.splits[1],
        whole=result.params | {"backbone": backbone},
        filters=np.asarray(backbone["block1_conv1"]["kernel"]),
        figures={"What the blocks see": activations_figure(shown, maps)},
        notice=weights.notice,
    )
