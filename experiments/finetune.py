"""Fine-tune VGG16 with Keras's weights: frozen blocks, a new head.

python -m experiments.finetune                                  what can be had, said loudly
python -m experiments.finetune --data-dir DIR --weights PATH.h5 your data, your weights
python -m experiments.finetune --preset keras                   the article's recipe
"""

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from experiments.config import RunConfig
from experiments.recipe import check_blocks, parse_stages
from mnistjax import cli
from mnistjax.errors import UsageError

PRESETS = ("small", "keras")
# What a preset sets where no flag does: size, cut, standardised features, falling rate.
RECIPES = {"small": (32, "block3", True, True), "keras": (224, "block5", False, False)}
WHY = {
    "small": "blocks 1-3 at 32x32, features standardised, falling rate: the best in time and"
    " accuracy of what was measured on a CPU",
    "keras": "five blocks at 224x224, Adam at one rate: the original recipe, for comparison",
}


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(RunConfig):
    """Fine-tune VGG16 on frozen features and write a report."""

    weights: Annotated[str, tyro.conf.arg(metavar="auto|imagenet|random|PATH")] = "auto"
    """auto: ImageNet's from Keras's cache or the network, else random; PATH: .h5, .safetensors."""
    preset: Annotated[str, tyro.conf.arg(metavar="|".join(PRESETS))] = "small"
    """small: blocks 1-3 at 32x32, standardised; keras: five blocks at 224x224."""
    image_size: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Side that images are enlarged to, at least 32; default: the preset's."""
    cut: Annotated[str | None, tyro.conf.arg(metavar="block3|block4|block5")] = None
    """Use VGG16 up to this block; default: the preset's."""
    head: Annotated[str, tyro.conf.arg(metavar="flatten|gap")] = "flatten"
    """What the head sees of the last map: all of it, or the mean of each channel."""
    unfreeze: Annotated[str | None, tyro.conf.arg(metavar="BLOCK,...")] = None
    """Train these blocks too, from the first epoch on, at the same rate."""
    stages: Annotated[str | None, tyro.conf.arg(metavar="head:N,BLOCK:N@RATE,...")] = None
    """Train the head first, then blocks as well at rates of their own; sets the epochs."""
    cache_features: bool = True
    """Compute the frozen part once and keep it on disk; --no-cache-features: in every epoch."""
    cache_limit: Annotated[float, tyro.conf.arg(metavar="GIB")] = 8.0
    """Do not cache features that are larger."""
    color: bool = False
    """Keep the colours of images of a folder."""

    @property
    def recipe(self) -> tuple[int, str, bool, bool]:
        """Image size, cut, standardised features, falling rate: flags, else the preset's."""
        size, cut, standardise, cosine = RECIPES[self.preset]
        return self.image_size or size, self.cut or cut, standardise, cosine

    @property
    def trained_names(self) -> list[str]:
        """The blocks that train at some time."""
        if self.stages is not None:
            return [part.name for part in parse_stages(self.stages, self.recipe[1])[1:]]
        return [] if self.unfreeze is None else [n.strip() for n in self.unfreeze.split(",")]

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        super().validate()
        UsageError.unless_in("--preset", self.preset, PRESETS)
        UsageError.unless_in("--cut", self.cut or "block3", ("block3", "block4", "block5"))
        UsageError.unless_in("--head", self.head, ("flatten", "gap"))
        if "." not in self.weights and "/" not in self.weights:
            UsageError.unless_in("--weights", self.weights, ("auto", "imagenet", "random"))
        if self.recipe[0] < 32:
            why = "VGG16 takes at least 32"
            raise UsageError(f"--image-size {self.image_size}", why, fix="pass --image-size 32")
        if not self.cache_limit > 0:
            what = f"--cache-limit {self.cache_limit}"
            raise UsageError(what, "must be positive", fix="pass --cache-limit 8")
        if self.stages is not None and (self.epochs or self.unfreeze):
            flag = "--epochs" if self.epochs else "--unfreeze"
            raise UsageError(f"--stages with {flag}", "it says both", fix=f"drop {flag}")
        check_blocks("--unfreeze" if self.stages is None else "--stages", self.trained_names,
                     self.recipe[1])  # fmt: skip


def main(config: FinetuneConfig) -> int:
    """Run the experiment; the exit code is 0, or 128 + the signal that stopped it."""
    directory = config.run_directory("finetune")
    # Only now the seconds of importing jax: a wrong flag has been answered already.
    from experiments.transfer import finetune

    return finetune(config, directory)


if __name__ == "__main__":
    sys.exit(cli.run(FinetuneConfig, main))
