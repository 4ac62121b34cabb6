"""The flags of fine-tuning, and what its presets set where no flag does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments.config import RunConfig
from mnistjax.cli import MayChange
from mnistjax.data.augment_text import AUGMENT, parse_augmentation
from mnistjax.errors import UsageError
from mnistjax.flag_checks import check_least, check_path, check_share
from mnistjax.models.vgg16_table import CUTS
from mnistjax.runs.finetune_recipes import RECIPES, Recipe
from mnistjax.runs.stages_text import check_blocks, parse_stages

SHARES = "weight_decay", "label_smoothing", "dropout"
LEAST = {"image_size": 32, "hidden": 1, "copies": 2}
PRESET = "cut", "augment", *SHARES, *LEAST


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(RunConfig):
    """Fine-tune VGG16 on frozen features and write a report."""

    experiment = "finetune"
    weights: MayChange[Annotated[str, tyro.conf.arg(metavar="auto|imagenet|random|PATH")]] = "auto"
    """auto: ImageNet's from Keras's cache or the network, else random; PATH: .h5, .safetensors."""
    preset: Annotated[str, tyro.conf.arg(metavar="|".join(RECIPES))] = "small"
    """small: blocks 1-3 at 32x32, standardised; keras: five blocks at 224x224."""
    image_size: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Side that images are enlarged to, at least 32; default: the preset's."""
    cut: Annotated[str | None, tyro.conf.arg(metavar="|".join(CUTS))] = None
    """Use VGG16 up to this block; default: the preset's."""
    weight_decay: Annotated[float | None, tyro.conf.arg(metavar="SHARE")] = None
    """AdamW's pull towards zero, as a share of the rate; default: the preset's."""
    label_smoothing: Annotated[float | None, tyro.conf.arg(metavar="SHARE")] = None
    """Share of every label spread over all classes; default: the preset's."""
    hidden: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Width of the head's hidden layer; default: the preset's."""
    dropout: Annotated[float | None, tyro.conf.arg(metavar="SHARE")] = None
    """Share of the head's hidden values left out in each step; default: the preset's."""
    augment: Annotated[str | None, tyro.conf.arg(metavar=AUGMENT)] = None
    """Training images changed: shift, rotation, scale, shear, elastic, cutout, crop, flip."""
    copies: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """With --augment: keep features of N versions of each image; --no-cache-features: new ones."""
    head: Annotated[str, tyro.conf.arg(metavar="flatten|gap")] = "flatten"
    """What the head sees of the last map: all of it, or the mean of each channel."""
    unfreeze: Annotated[str | None, tyro.conf.arg(metavar="BLOCK,...")] = None
    """Train these blocks too, from the first epoch on, at the same rate."""
    stages: Annotated[str | None, tyro.conf.arg(metavar="head:N,BLOCK:N@RATE,...")] = None
    """Train the head first, then blocks as well at rates of their own; sets the epochs."""
    cache_features: MayChange[bool] = True
    """Compute the frozen part once and keep it on disk; --no-cache-features: in every epoch."""

    @property
    def recipe(self) -> Recipe:
        """The preset's, with what the flags say instead."""
        return RECIPES[self.preset]._replace(**self.given(*PRESET))

    @property
    def trained_names(self) -> list[str]:
        """The blocks that train at some time."""
        if self.stages is not None:
            return [part.name for part in parse_stages(self.stages, self.recipe.cut)[1:]]
        return [] if self.unfreeze is None else [n.strip() for n in self.unfreeze.split(",")]

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        super().validate()
        UsageError.unless_in("--preset", self.preset, [*RECIPES])
        UsageError.unless_in("--cut", self.cut or CUTS[0], CUTS)
        UsageError.unless_in("--head", self.head, ("flatten", "gap"))
        if "." not in self.weights and "/" not in self.weights:
            UsageError.unless_in("--weights", self.weights, ("auto", "imagenet", "random"))
        check_path("weights", Path(self.weights))
        for name in SHARES:
            check_share(name, getattr(self.recipe, name))
        parse_augmentation(self.recipe.augment)
        for name, least in LEAST.items():
            check_least(name, getattr(self.recipe, name), least)
        if self.stages is not None and (self.epochs or self.unfreeze):
            flag = "--epochs" if self.epochs else "--unfreeze"
            raise UsageError(f"--stages with {flag}", "it says both", fix=f"drop {flag}")
        flag = "--unfreeze" if self.stages is None else "--stages"
        check_blocks(flag, self.trained_names, self.recipe.cut)
