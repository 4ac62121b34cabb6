"""Train a CNN from scratch: what each preset makes of MNIST is in RESULTS.md.

python -m experiments.scratch                     MNIST if it can be had, else digits
python -m experiments.scratch --data-dir DIR      your IDX files or folders of images
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments.config import FILLED_IN, RunConfig
from mnistjax import cli
from mnistjax.cli import Before, MayChange
from mnistjax.data.augment_text import AUGMENT, parse_augmentation
from mnistjax.data.dataset import Dataset
from mnistjax.errors import UsageError
from mnistjax.flag_checks import check_share, refuse
from mnistjax.ops.kinds import POOLS
from mnistjax.runs.recipes import MODELS, RECIPES, WHY, Recipe

PRESET = "model", "augment", "label_smoothing", *FILLED_IN


@dataclass(frozen=True, kw_only=True)
class ScratchConfig(RunConfig):
    """Train a CNN from scratch and write a report."""

    experiment = "scratch"
    photo_flags = (*RunConfig.photo_flags, "image_size")
    preset: Annotated[str, Before("keras"), tyro.conf.arg(metavar="|".join(RECIPES))] = "standard"
    """standard: 5 epochs; keras: the article's; quick: 1 epoch; record: the best, half an hour."""
    model: Annotated[str | None, Before("small"), tyro.conf.arg(metavar="|".join(MODELS))] = None
    """The network; default: the preset's."""
    augment: Annotated[str | None, Before("none"), tyro.conf.arg(metavar=AUGMENT)] = None
    """Training images changed: shift, rotation, scale, shear, elastic, cutout, crop, flip."""
    label_smoothing: Annotated[float | None, Before(0.0), tyro.conf.arg(metavar="SHARE")] = None
    """Share of every label spread over all classes; default: the preset's."""
    find_learning_rate: MayChange[bool] = False
    """Instead of training: 100 steps at rising rates, a picture, and the rate they suggest."""
    image_size: int = 28
    """Side of the square that images of a folder are resized to, at least 10."""
    pool: Annotated[str, tyro.conf.arg(metavar="|".join(POOLS))] = "max"
    """What a 2x2 pooling of the small CNN takes of its window."""
    lrn: bool = False
    """Normalise its pooled maps over neighbouring channels (local response normalisation)."""

    @property
    def recipe(self) -> Recipe:
        """The preset's, with what the flags say instead."""
        return RECIPES[self.preset]._replace(**self.given(*PRESET))

    @property
    def filled_in(self) -> dict[str, Any]:
        """Flags that the preset fills in, filled in."""
        return {name: getattr(self.recipe, name) for name in PRESET}

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        super().validate()
        UsageError.unless_in("--preset", self.preset, [*RECIPES])
        UsageError.unless_in("--pool", self.pool, POOLS)
        UsageError.unless_in("--model", self.recipe.model, MODELS)
        parse_augmentation(self.recipe.augment)
        check_share("label_smoothing", self.recipe.label_smoothing)
        if self.recipe.model != "small" and (self.pool != "max" or self.lrn):
            name = "lrn" if self.lrn else "pool"
            refuse(name, getattr(self, name), "is for --model small", None)
        if self.find_learning_rate and self.seeds > 1:
            refuse("seeds", self.seeds, "--find-learning-rate trains none", None)
        if self.image_size < 10:
            refuse("image_size", self.image_size, "the two poolings need at least 10", "28")


def main(config: ScratchConfig) -> int:
    """Run the experiment and return 0; a signal raises `Stopped`."""
    with config.run_directory() as directory:
        from experiments.common import over_seeds  # now only: jax takes seconds

        return over_seeds(config, scratch, directory)


def scratch(config: ScratchConfig, directory: Path) -> Dataset:
    """The whole run; returned is what it was scored on."""
    from experiments import common
    from mnistjax.models.named import new_network
    from mnistjax.models.summary import summarise
    from mnistjax.report.augmented import augmented_figures
    from mnistjax.runs.rate_test import say_rate
    from mnistjax.runs.result import About
    from mnistjax.runs.scratch_plan import plan_of
    from mnistjax.runs.settings import setting_of_epochs, settings_for
    from mnistjax.runs.train import first_filters
    from mnistjax.training.batch_size import usual_epochs

    data = common.load_data(config, image_size=config.image_size)
    examples = common.chosen_train(config, data)
    splits = common.split_off(config, data, examples)
    config, batch_size = common.fitted(config, len(splits[0].labels))
    recipe = config.recipe
    model, described = new_network(
        recipe.model,
        image_shape=data.image_shape,
        num_classes=len(data.class_names),
        dtype=config.dtype,
        seed=config.seed,
        **({"pool": config.pool, "lrn": config.lrn} if recipe.model == "small" else {}),
    )
    epochs = config.epochs or usual_epochs(len(splits[0].labels), batch_size, recipe.epochs)
    layers = summarise(model, data.image_shape)
    plan = plan_of(
        recipe,
        model,
        splits,
        epochs=epochs,
        seed=config.seed,
        photos=data.photos is not None,
        loss_fn=common.loss_of(config, splits[0].labels, data, recipe.label_smoothing),
        early_stopping=config.early_stopping,
        accumulate=config.accumulate,
    )
    common.banner(config, directory, plan, data)
    common.show_model(config, layers, f"recipe {config.preset}: {WHY[config.preset]}")
    if config.find_learning_rate:
        common.console.print(say_rate(plan, directory), highlight=False)
        return data
    del model  # its arrays are copied: of 24 million parameters 91 MiB
    settings = settings_for(config, data, setting_of_epochs(epochs, falls=recipe.falls))
    trained = common.train(config, plan, directory, settings)
    about = About(
        data=data,
        layers=layers,
        train_examples=plan.examples,
        validation_examples=plan.held_out,
        network=described,
        facts=common.shared_facts(config) | {"preset": config.preset} | recipe._asdict(),
        filters=first_filters(trained.params),
        figures=augmented_figures(data.train.images, plan.augment),
        examined=(examples, examples) if config.find_mislabelled else None,
    )
    return common.finish(config, directory, trained, about)


if __name__ == "__main__":
    sys.exit(cli.run(ScratchConfig, main))
