"""Write a finished run as a file for others.

    python -m experiments.export RUN --format onnx           for onnxruntime: C++, C#, web, phones
    python -m experiments.export RUN --format stablehlo      for JAX alone, on CPU, GPU and TPU
    python -m experiments.export RUN --format safetensors --output FILE     the archive itself

What each holds, promises and differs by: docs/export.md.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments.config import check_path
from mnistjax import cli
from mnistjax.inference.export_formats import FORMATS, check_format, output_of
from mnistjax.platforms import choose_platform


@dataclass(frozen=True, kw_only=True)
class ExportConfig(cli.Config):
    """Write a finished run as StableHLO, ONNX or safetensors."""

    flag_of = {"directory": "RUN"}

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """A run directory, or a model.safetensors."""
    format: Annotated[str, tyro.conf.arg(metavar="|".join(FORMATS))]
    """stablehlo is read by JAX alone, onnx by many; safetensors is what lasts."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write; default: model.<format> in the run."""
    force: bool = False
    """Replace a file that is already there."""

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        check_path("run", self.run)
        check_path("output", self.output or Path())
        check_format(self.format)
        output_of(self.run, self.format, self.output, force=self.force)


def main(config: ExportConfig) -> int:
    """Write the file, say what is in it, and return 0."""
    choose_platform("cpu")  # lowering for others needs no device, and takes none away
    from mnistjax.inference.export import export

    print(export(config.run, config.format, config.output, force=config.force))
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(ExportConfig, main))
