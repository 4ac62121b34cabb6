"""VGG16 beside its peers: convolutions forward by size, and a whole training step.

    python -m benchmarks.vgg16

Forward is what a frozen backbone costs; the training step has gradients of all 13 convolutions and
of a head (flatten, 256, 10), by Adam.
"""

import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.cells import Cell
from benchmarks.compare import BenchmarkConfig, compare, facts, finish, same_features, same_losses
from benchmarks.problems import (
    vgg16_flops,
    vgg16_problem,
    vgg16_step_flops,
    vgg16_training_problem,
)
from mnistjax import cli
from mnistjax.errors import UsageError

CELLS = (
    Cell("mnistjax", "ours_vgg16"),
    Cell("Keras 3 on TensorFlow", "keras_vgg16", ("tensorflow",), "tensorflow"),
    Cell("PyTorch channels_last", "torch_vgg16", ("channels_last",), "torch"),
    Cell("PyTorch torch.compile", "torch_vgg16", ("compile",), "torch"),
    Cell("PyTorch contiguous", "torch_vgg16", ("contiguous",), "torch"),
    Cell("JAX the usual way", "jax_usual_vgg16"),
)
TRAINING = (
    Cell("mnistjax", "ours_vgg16_train"),
    Cell("PyTorch channels_last", "torch_vgg16_train", ("channels_last",), "torch"),
    Cell("PyTorch contiguous", "torch_vgg16_train", ("contiguous",), "torch"),
    Cell("JAX the usual way", "jax_usual_vgg16_train"),
)
BATCHES = {32: 64, 64: 32, 224: 4}
TRAINING_BATCHES = {32: 32}
NO_BFLOAT16 = {"status": "not run", "why": "the library computes in float32 only"}


@dataclass(frozen=True, kw_only=True)
class JobConfig(BenchmarkConfig):
    """VGG16's convolutions, and its training step."""

    sizes: tuple[int, ...] = (32, 64, 224)
    """Sides of the images: of 32, 64, 224."""

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        super().validate()
        for size in self.sizes:
            UsageError.unless_in("--sizes", str(size), [str(size) for size in BATCHES])


def main(config: JobConfig) -> int:
    """Measure every cell at every size; the exit code is 0 also where peers are missing."""
    machine = facts(config)
    threads = f"float32, {config.threads} threads"
    result: dict[str, Any] = {}
    for size, batch in BATCHES.items():
        name = f"{size}x{size}"
        if size not in config.sizes:
            gap = {"status": "not run", "why": f"not among --sizes {config.sizes}"}
            result[name] = {"rows": {cell.name: gap for cell in CELLS}}
            continue
        result[name] = compare(
            config,
            f"VGG16 forward, {name}, batch {batch}, {threads}",
            CELLS,
            problem=partial(vgg16_problem, size=size, batch=batch),
            images=batch,
            flops=vgg16_flops(size),
            same=same_features,
        )
    training = not config.only or any(cell.name in config.only for cell in TRAINING)
    for size, batch in TRAINING_BATCHES.items() if training else ():
        name = f"training step, {size}x{size}"
        result[name] = compare(
            config,
            f"VGG16 {name}, batch {batch}, {threads}",
            TRAINING,
            problem=partial(vgg16_training_problem, size=size, batch=batch),
            images=batch,
            flops=vgg16_step_flops(size),
            same=partial(same_losses, first=1e-3, last=0.05),
        )
    result["bfloat16"] = {"rows": {"mnistjax": NO_BFLOAT16}}
    return finish("vgg16", config, machine, result)


if __name__ == "__main__":
    sys.exit(cli.run(JobConfig, main))
