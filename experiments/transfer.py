"""From weights and data to a fine-tuned model and its report."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments import run
from experiments.features import Features, frozen_features, saving
from experiments.finetune import WHY
from experiments.recipe import blocks_of, parse_stages, trained_blocks
from experiments.stages import Adam, one_stage, several_stages
from experiments.train import Stage, console, train_stages
from mnistjax.data.batches import Batch, steps_per_epoch
from mnistjax.data.dataset import Split
from mnistjax.frozen.statistics import mean_and_scale
from mnistjax.models.functional import Params, functional
from mnistjax.models.head import FineTuned, Kind, features
from mnistjax.models.summary import LayerRow, summarise
from mnistjax.models.vgg16 import convolutions, map_shape
from mnistjax.report.activations import activations_figure
from mnistjax.runs.log import by_accuracy, by_loss
from mnistjax.weights.source import SOURCES, load_weights

if TYPE_CHECKING:
    from experiments.finetune import FinetuneConfig

SAMPLE = 8192  # training examples whose features give mean and scale


def finetune(config: "FinetuneConfig", directory: Path) -> int:
    """The whole run; the exit code is 0, or 128 + the signal that stopped it."""
    recipe = config.recipe
    size, cut = recipe.image_size, recipe.cut
    trained = trained_blocks(config.trained_names, cut)
    frozen = [block for block in blocks_of(cut) if block not in trained]
    data = run.load_data(config, image_size=size, color=config.color)
    source = config.weights if config.weights in SOURCES else Path(config.weights)
    weights = load_weights(source, cut=cut, seed=config.seed, quiet=config.quiet)
    run.say_loudly(config, weights.notice)

    examples = run.chosen_train(config, data)
    got = frozen_features(config, weights, frozen, [examples, data.test], size=size)
    if isinstance(got, int):
        return got
    train, validation = run.split_off_validation(config, got.splits[0])
    counts = len(train.labels), len(validation.labels)

    input_shape = map_shape((size, size, 3), frozen)
    model = FineTuned(
        input_shape=input_shape,
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
        fill_in_statistics(params, model, train, got)
    stages = make_stages(config, params, count=counts[0])
    epochs = stages[-1].until
    layers = layer_rows(model, input_shape, frozen, config.trained_names, size)
    run.banner(config, data, directory, layers, counts=counts, epochs=epochs)
    if not config.quiet:
        console.print(f"recipe {config.preset}: {WHY[config.preset]}", highlight=False)
        line = saving(got.facts, train_examples=counts[0], epochs=epochs)
        console.print(f"weights: {weights.origin} · {line}", highlight=False)

    result = train_stages(
        "finetune",
        config,
        directory,
        apply_fn=apply_fn,
        params=params,
        stages=stages,
        train=train,
        validation=validation,
        settings=config.as_json()
        | {"dataset_sha256": data.sha256, "weights_sha256": weights.sha256},
        preprocess=lambda maps: maps,
        through=got.through,
        label_smoothing=recipe.label_smoothing,
        score=by_accuracy if recipe.label_smoothing else by_loss,
    )
    if isinstance(result, int):
        return result
    whole = result.params | {"backbone": weights.params | result.params.get("backbone", {})}
    shown = data.test.images[np.unique(data.test.labels, return_index=True)[1][:5]]
    pictures = activations_figure(
        whole["backbone"], shown, blocks=blocks_of(cut), preprocess=weights.preprocess(size)
    )
    return run.finish(
        "finetune",
        config,
        directory,
        data,
        result,
        layers=layers,
        counts=counts,
        facts={
            "weights": weights.origin,
            "weights_sha256": weights.sha256,
            "image_size": size,
            "cut": cut,
            "head": config.head,
            "preset": config.preset,
            "weight_decay": recipe.weight_decay,
            "label_smoothing": recipe.label_smoothing,
            "unfrozen": ", ".join(config.trained_names),
            "feature_cache": got.facts,
        },
        whole=whole,
        filters=np.asarray(whole["backbone"]["block1_conv1"]["kernel"]),
        scored=got.splits[1],
        figures={"What the blocks see": pictures},
        notice=weights.notice,
    )


def fill_in_statistics(params: Params, model: FineTuned, train: Split, got: Features) -> None:
    """Put mean and scale of the head's inputs on a sample of the training examples in `params`."""
    chosen = np.linspace(0, len(train.labels) - 1, min(SAMPLE, len(train.labels))).astype(int)
    sample = train.take(chosen)
    graphdef, _ = nnx.split(model.backbone)

    @jax.jit
    def head_inputs(backbone: Params, maps: jax.Array) -> jax.Array:
        return features(nnx.merge(graphdef, backbone)(maps), model.head.kind)

    rows = []
    for start in range(0, len(chosen), 256):
        part = sample.take(np.arange(start, min(start + 256, len(chosen))))
        batch = Batch(
            jnp.asarray(part.images), jnp.asarray(part.labels), jnp.ones(len(part.labels), bool)
        )
        rows.append(np.asarray(head_inputs(params.get("backbone", {}), got.through(batch).images)))
    mean, scale = mean_and_scale(np.concatenate(rows))
    params["head"]["standardise"] = {"mean": jnp.asarray(mean), "scale": jnp.asarray(scale)}


def make_stages(config: "FinetuneConfig", params: Params, *, count: int) -> list[Stage]:
    """The stages that the flags ask for."""
    steps = steps_per_epoch(count, config.batch_size)
    recipe = config.recipe
    adam = Adam(config.learning_rate, recipe.weight_decay, recipe.cosine)
    if config.stages is not None:
        return several_stages(params, parse_stages(config.stages, recipe.cut), adam, steps=steps)
    epochs = max(recipe.epochs, run.default_epochs(count, config.batch_size))
    epochs = config.epochs or epochs
    return one_stage(params, config.trained_names, adam, epochs=epochs, steps=steps)


def layer_rows(
    model: FineTuned,
    input_shape: tuple[int, int, int],
    frozen: list[str],
    trained_names: list[str],
    size: int,
) -> list[LayerRow]:
    """Every layer of the whole model: the frozen blocks, then what `model` holds."""
    rows = []
    for layers in convolutions(frozen).values():
        for layer, shapes in layers.items():
            parameters = sum(int(np.prod(shape)) for shape in shapes.values())
            output = (size, size, shapes["kernel"][3])
            flops = size * size * (2 * int(np.prod(shapes["kernel"])) + output[2])
            rows.append(LayerRow(f"backbone/{layer}", "Conv", output, parameters, flops, False))
        size //= 2
    for row in summarise(model, input_shape):
        part, _, layer = row.name.partition("/")
        trains = (
            layer.partition("_")[0] in trained_names
            if part == "backbone"
            else layer != "standardise"
        )
        rows.append(row._replace(trains=trains))
    return rows
