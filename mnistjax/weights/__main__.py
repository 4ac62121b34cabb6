"""Look into weights, or convert them to safetensors.

python -m mnistjax.weights inspect FILE.h5
python -m mnistjax.weights convert FILE.h5 --cut block3
python -m mnistjax.weights convert imagenet --output vgg16.safetensors
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from mnistjax import cli
from mnistjax.errors import UsageError
from mnistjax.models.vgg16_table import CUTS

Source = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SRC")]
Cut = tyro.conf.arg(metavar="|".join(CUTS))


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Write VGG16's weights as safetensors, with the digest of their source."""

    source: Source
    """A .h5 or .keras file as Keras writes it, torchvision's vgg16 as .safetensors, or imagenet, or
    random."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DST")] = None
    """Default: the source's name with .safetensors."""
    cut: Annotated[str, Cut] = "block5"
    """The last block to keep."""

    @property
    def target(self) -> Path:
        """Where the converted file goes."""
        return self.output or Path(self.source).with_suffix(".safetensors")


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """Show every tensor with its norm and digest, and what the file holds besides."""

    source: Source
    """A .h5, .keras or .safetensors file, or imagenet, or random."""
    cut: Annotated[str | None, Cut] = None
    """The last block to look at; default: as deep as the file goes."""


@tyro.conf.configure(tyro.conf.CascadeSubcommandArgs)  # --debug may come last
@dataclass(frozen=True, kw_only=True)
class WeightsConfig(cli.Config):
    """VGG16's weights: look into them, or convert them to safetensors."""

    flag_of = {"source": "SRC", "path": "--output"}

    command: tyro.conf.OmitArgPrefixes[tyro.conf.OmitSubcommandPrefixes[Convert | Inspect]]

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        if self.command.cut is not None:
            UsageError.unless_in("--cut", self.command.cut, CUTS)
        if isinstance(self.command, Convert):
            target = self.command.target
            if target.suffix != ".safetensors":
                fix = f"pass --output {target.with_suffix('.safetensors')}"
                raise UsageError(f"--output {target}", "is not called .safetensors", fix=fix)
            if target.absolute() == Path(self.command.source).absolute():
                fix = "pass --output with another name"
                raise UsageError(f"convert {target}", "would overwrite its source", fix=fix)


def main(config: WeightsConfig) -> int:
    """Load, report, and convert if asked to; the exit code is 0."""
    from rich.console import Console

    from mnistjax.weights.conversion_report import print_report
    from mnistjax.weights.safetensors import write_safetensors
    from mnistjax.weights.source import load_weights

    command = config.command
    weights = load_weights(command.source, cut=command.cut)
    console = Console()
    print_report(console, weights)
    if isinstance(command, Convert):
        write_safetensors(
            command.target,
            weights.params,
            source_sha256=weights.sha256,
            origin=weights.origin,
            pixels=weights.pixels,
        )
        console.print(f"wrote {command.target}", highlight=False, markup=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(WeightsConfig, main))
