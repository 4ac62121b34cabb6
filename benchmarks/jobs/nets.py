"""Networks of the field, as they are and with our convolutions: `python -m benchmarks nets`.

ResNet-18 with the stem for CIFAR, MobileNetV2, a small U-Net and ConvNeXt-T, each a training step
(SGD with momentum, BatchNorm by the batch's statistics) and forward (by running statistics). Our
row and JAX's differ by two calls, `speed_up(model)` and `keep_host_memory()`; PyTorch has a row
with what the second does, too. PyTorch and Keras have the networks written out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from benchmarks.harness.cells import Cell
from benchmarks.harness.job import BenchmarkConfig, asked_for, finish, keep, machine_facts
from benchmarks.harness.measure import measure_in_turn
from benchmarks.harness.networks import NETWORKS, forward_flops, step_flops
from benchmarks.harness.problems import network_problem
from benchmarks.harness.same import Same, same_features, same_losses
from mnistjax.errors import UsageError

KERAS, KEPT = "Keras on TensorFlow", "PyTorch channels_last, memory kept"


def training_cells(name: str) -> tuple[Cell, ...]:
    """Every program that trains the network, ours first."""
    return (
        Cell("mnistjax", "jax_net_train", (name, "ours")),
        Cell("JAX the usual way", "jax_net_train", (name, "usual")),
        Cell("PyTorch channels_last", "torch_net_train", (name, "usual"), "torch"),
        Cell(KEPT, "torch_net_train", (name, "kept"), "torch"),
        Cell(KERAS, "keras_net", (name, "train"), "tensorflow"),
    )


def forward_cells(name: str) -> tuple[Cell, ...]:
    """Every program that makes logits, ours first."""
    return (
        Cell("mnistjax", "jax_net", (name, "ours")),
        Cell("JAX the usual way", "jax_net", (name, "usual")),
        Cell("PyTorch channels_last", "torch_net", (name, "channels_last"), "torch"),
        Cell(KEPT, "torch_net", (name, "kept"), "torch"),
        Cell("PyTorch torch.compile", "torch_net", (name, "compile"), "torch"),
        Cell(KERAS, "keras_net", (name, "forward"), "tensorflow"),
    )


class Part(NamedTuple):
    """Forward or a training step: who does it, and when two have done the same."""

    cells: Callable[[str], tuple[Cell, ...]]
    flops: Callable[[str], float]
    same: Same


# Statistics of the batch amplify rounding: MobileNetV2's third loss in PyTorch, batch 8, differs
# by 1.7 % between float32 and float64.
PARTS = {
    "training step": Part(training_cells, step_flops, partial(same_losses, last=0.05)),
    "forward": Part(forward_cells, forward_flops, same_features),
}


@dataclass(frozen=True, kw_only=True)
class JobConfig(BenchmarkConfig):
    """ResNet-18, MobileNetV2, a U-Net, ConvNeXt-T: a training step, and forward."""

    networks: tuple[str, ...] = tuple(NETWORKS)
    """Networks to measure: of resnet, mobilenet, unet, convnext."""

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        super().validate()
        for name in self.networks:
            UsageError.unless_in("--networks", name, list(NETWORKS))


def main(config: JobConfig) -> int:
    """Measure every cell of every network; the exit code is 0 also where peers are missing."""
    machine = machine_facts(config)
    asked_for(config, forward_cells("resnet"))
    result: dict[str, Any] = {}
    for name, of in NETWORKS.items():
        for what, part in PARTS.items():
            cells = part.cells(name)
            group = f"{of.called}, {what}"
            if name not in config.networks:
                gap = {"status": "not run", "why": f"not among --networks {config.networks}"}
                result[group] = {"rows": {cell.name: gap for cell in cells}}
            elif not config.only or any(cell.name in config.only for cell in cells):
                batch = f"{of.side}x{of.side}, batch {of.batch}, float32"
                result[group] = measure_in_turn(
                    config,
                    f"{group}, {batch}, {config.threads} threads",
                    cells,
                    problem=partial(network_problem, name=name),
                    images=of.batch,
                    flops=part.flops(name),
                    same=part.same,
                )
                keep("nets", config, machine, result)
    return finish("nets", config, machine, result)
