"""From the flags of fine-tuning to a fine-tuned VGG16 and its report."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from flax import nnx

from experiments import common
from experiments.finetune_flags import PRESET, FinetuneConfig
from mnistjax.data.augment import augmentation_of
from mnistjax.data.batches import steps_per_epoch
from mnistjax.data.copies import examples_in
from mnistjax.data.dataset import Dataset, Split
from mnistjax.frozen.begin import begin_finetuned
from mnistjax.frozen.features import FrozenPart, saving
from mnistjax.frozen.prepared import Prepared, prepare
from mnistjax.frozen.seen import seen_by_blocks
from mnistjax.models.described import describe
from mnistjax.models.functional import Params
from mnistjax.models.head import FineTuned, Kind
from mnistjax.models.summary import LayerRow
from mnistjax.models.summary_finetuned import summarise_finetuned
from mnistjax.models.vgg16 import map_shape
from mnistjax.report.augmented import augmented_figures
from mnistjax.runs.best import by_accuracy, by_loss
from mnistjax.runs.finetune_recipes import WHY
from mnistjax.runs.finetune_stages import Adam, epochs_setting, one_stage, several_stages
from mnistjax.runs.plan import Plan, Stage
from mnistjax.runs.result import About
from mnistjax.runs.settings import Setting, settings_for
from mnistjax.runs.stages_text import blocks_of, parse_stages, trained_blocks
from mnistjax.runs.train_run import Trained
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
    checked, _ = common.split_off(config, data, examples)  # before the hours of features
    config, batch_size = common.fitted(config, len(checked.labels))
    source = config.weights if config.weights in SOURCES else Path(config.weights)
    weights = load_weights(source, cut=recipe.cut, seed=config.seed, quiet=config.quiet)
    common.say_loudly(config, weights.notice)
    got = features_of(config, weights, frozen, data, examples)
    model = FineTuned(
        input_shape=map_shape((recipe.image_size, recipe.image_size, 3), frozen),
        blocks=trained,
        num_classes=len(data.class_names),
        kind=cast(Kind, config.head),
        standardise=recipe.standardise,
        hidden=(recipe.hidden, recipe.dropout),
        dtype=config.dtype,
        rngs=nnx.Rngs(config.seed),
    )
    apply_fn, params, model_state = begin_finetuned(model, weights.params, got.train, got.on_host)
    layers = summarise_finetuned(
        model, frozen, image_size=recipe.image_size, trains=config.trained_names
    )
    plan = Plan(
        apply_fn=apply_fn,
        params=params,
        model_state=model_state,
        stages=make_stages(config, params, examples_in(got.train), batch_size),
        train=got.train,
        validation=got.validation,
        batch_size=batch_size,
        seed=config.seed,
        preprocess=lambda maps: maps,
        through=got.through,
        loss_fn=common.loss_of(config, got.train.labels, data, recipe.label_smoothing),
        score=by_accuracy if recipe.label_smoothing else by_loss,
        early_stopping=config.early_stopping,
        augment=got.augment_in_steps,
        accumulate=config.accumulate,
    )
    common.banner(config, directory, plan, data)
    common.show_model(config, layers, f"recipe {config.preset}: {WHY[config.preset]}")
    saved = saving(got.facts, plan.examples, epochs=plan.epochs)
    common.say(config, f"weights: {weights.origin} · {saved}")
    epochs = epochs_setting(plan.epochs, recipe, in_stages=config.stages is not None)
    settings = settings_for(config, data, epochs)
    settings["copies_kept"] = Setting(got.copies, absent=1, given_by=("cache_features",))
    settings["weights_sha256"] = Setting(weights.sha256, given_by=("weights",))
    result = common.train(config, plan, directory, settings)
    about = about_run(config, data, weights, got, result, layers, plan, model)
    examined = (examples, got.examples) if config.find_mislabelled else None
    return common.finish(config, directory, result, replace(about, examined=examined))


def features_of(
    config: FinetuneConfig, weights: Weights, frozen: list[str], data: Dataset, examples: Split
) -> Prepared:
    """What the frozen blocks make of the splits of `data`, cached if the flags allow it."""
    at = {"image_size": config.recipe.image_size, "dtype": config.dtype}
    got = prepare(
        FrozenPart.of(weights, frozen, **at),
        data,
        examples,
        part_off=partial(common.split_off, config),
        augment=augmentation_of(config.recipe.augment, photos=data.photos is not None),
        copies=config.recipe.copies,
        limit_bytes=round(config.cache_limit * 2**30) if config.cache_features else None,
        quiet=config.quiet,
    )
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
    epochs = config.epochs or max(recipe.epochs, usual_epochs(count, batch_size))
    return one_stage(params, config.trained_names, adam, epochs=epochs, steps=steps)


def about_run(
    config: FinetuneConfig,
    data: Dataset,
    weights: Weights,
    got: Prepared,
    result: Trained,
    layers: list[LayerRow],
    plan: Plan,
    model: FineTuned,
) -> About:
    """What the report says: the whole model, its first filters, and what the blocks see."""
    recipe = config.recipe
    backbone: dict[str, Any] = weights.params | result.params.get("backbone", {})
    preprocess, blocks = weights.preprocess(recipe.image_size), blocks_of(recipe.cut)
    figures = augmented_figures(data.train.images, got.augment)
    figures |= seen_by_blocks(backbone, data.test, blocks=blocks, preprocess=preprocess)
    described = describe(model)
    frozen = {"blocks": [block for block in blocks if block not in described["blocks"]]}
    frozen |= {"image_size": recipe.image_size, "pixels": weights.pixels, "dtype": config.dtype}
    facts = {"weights": weights.origin, "weights_sha256": weights.sha256}
    facts |= {"preprocessing": PIXELS[weights.pixels], "head": config.head, "preset": config.preset}
    facts |= {name: getattr(recipe, name) for name in PRESET}
    facts |= {"unfrozen": ", ".join(config.trained_names), "feature_cache": got.facts}
    return About(
        data=data,
        layers=layers,
        train_examples=plan.examples,
        validation_examples=plan.held_out,
        network=described | {"frozen": frozen},
        facts=common.shared_facts(config) | facts,
        scored=got.test,
        whole=result.params | {"backbone": backbone},
        filters=np.asarray(backbone["block1_conv1"]["kernel"]),
        figures=figures,
        notice=weights.notice,
    )
