"""Each operation against XLA's default: `python -m benchmarks ops`.

`python -m benchmarks tune` runs every lowering of the convolutions: the measurements behind the
table in `mnistjax/ops/convolution.py`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.cells import Cell, run_cell
from benchmarks.harness.job import BenchmarkConfig, finish, keep, machine_facts
from benchmarks.harness.networks import WALKED, convolutions
from benchmarks.tables import screen
from mnistjax.errors import UsageError


def _conv(batch: int, size: int, inputs: int, outputs: int, k: int = 3, **more: Any) -> dict:
    shapes = {"x": [batch, size, size, inputs], "kernel": [k, k, inputs, outputs]}
    return {"op": "conv"} | shapes | more


def _map(op: str, batch: int, size: int, inputs: int) -> dict:
    return {"op": op, "x": [batch, size, size, inputs], "kernel": [1]}


CONVOLUTIONS = {
    "CNN conv1, 28x28 1 -> 32": _conv(22, 28, 1, 32, padding="VALID"),
    "CNN conv2, 12x12 32 -> 64": _conv(22, 12, 32, 64, padding="VALID"),
    "5x5 kernel, 14x14 16 -> 32": _conv(32, 14, 16, 32, k=5),
    "few channels, 28x28 4 -> 16": _conv(32, 28, 4, 16),
    "8 channels, 28x28 8 -> 16": _conv(32, 28, 8, 16),
    "VGG block1_conv1, 32x32 3 -> 64": _conv(64, 32, 3, 64),
    "VGG block1_conv2, 32x32 64 -> 64": _conv(64, 32, 64, 64),
    "VGG block2_conv1, 16x16 64 -> 128": _conv(64, 16, 64, 128),
    "VGG block3_conv2, 8x8 256 -> 256": _conv(64, 8, 256, 256),
    "VGG block4_conv2, 4x4 512 -> 512": _conv(64, 4, 512, 512),
    "VGG block5_conv2, 2x2 512 -> 512": _conv(64, 2, 512, 512),
    "VGG block1_conv2, 224x224 64 -> 64": _conv(1, 224, 64, 64),
    "VGG block3_conv2, 56x56 256 -> 256": _conv(1, 56, 256, 256),
    "VGG block5_conv2, 14x14 512 -> 512": _conv(1, 14, 512, 512),
}
OTHERS = {
    "conv-bias-ReLU-pool, 28x28 1 -> 32": _conv(22, 28, 1, 32, padding="VALID")
    | {"op": "conv_pool"},
    "conv-bias-ReLU-pool, 12x12 32 -> 64": _conv(22, 12, 32, 64, padding="VALID")
    | {"op": "conv_pool"},
    "max pool 2x2, 128 maps 26x26x32": _map("max_pool", 128, 26, 32),
    "average pool 2x2, 128 maps 26x26x32": _map("avg_pool", 128, 26, 32),
    "local response norm, 128 maps 12x12x32": _map("lrn", 128, 12, 32),
}


@dataclass(frozen=True, kw_only=True)
class JobConfig(BenchmarkConfig):
    """Each operation against XLA's default."""

    networks: tuple[str, ...] = tuple(WALKED)
    """Networks every convolution of which is measured: resnet, mobilenet, ..."""
    batch: int = 32
    """Images that they see."""

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        super().validate()
        for name in self.networks:
            UsageError.unless_in("--networks", name, list(WALKED))


def main(config: JobConfig) -> int:
    """Measure every case in a process of its own, its lowerings in turn."""
    machine, result = machine_facts(config), {}
    named = {"the library's own": CONVOLUTIONS | OTHERS}
    for name in config.networks:
        named[WALKED[name].called] = convolutions(name, config.batch)
    for group, cases in named.items():
        result[group] = {"rows": measure(config, cases)}
        keep("ops", config, machine, result)
    return finish("ops", config, machine, result)


def measure(
    config: BenchmarkConfig, cases: dict[str, dict[str, Any]], *, every_lowering: bool = False
) -> dict[str, Any]:
    """The rows of these cases, printed."""
    more = {"seconds": 0.2, "windows": 3, "all": every_lowering}
    rows = {}
    for name, case in cases.items():
        with screen.console.status(name):
            cell = Cell(name, "op_case", (json.dumps(case | more),))
            rows[name] = run_cell(cell, Path(), threads=config.threads)
    _print(rows)
    return rows


def _print(rows: dict[str, dict[str, Any]]) -> None:
    title = "ms forward / with both gradients"
    headings = ["forward", "gradients", "x default", "temp MiB", "of default's"]
    table = screen.start_table(["operation", "lowering"], headings, title=title)
    for name, row in rows.items():
        if "missing" in row:
            table.add_row(name, row["missing"])
            continue
        default = row["rows"]["default"]["with gradients"]
        for lowering, parts in row["rows"].items():
            both = parts["with gradients"]
            table.add_row(
                name if lowering == "default" else "",
                lowering,
                f"{parts['forward']['ms']:.2f}",
                f"{both['ms']:.2f}",
                f"{default['ms'] / both['ms']:.2f}",
                f"{both['temp_mib']:.1f}",
                f"{both['temp_mib'] / max(default['temp_mib'], 0.1):.2f}",
            )
    screen.console.print(table)
