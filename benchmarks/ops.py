"""Each operation against XLA's default: `python -m benchmarks.ops`.

`python -m benchmarks.tune` runs every lowering of the convolutions: the measurements behind the
table in `mnistjax/ops/convolution.py`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.cells import Cell
from mnistjax import cli


def _conv(batch: int, size: int, inputs: int, outputs: int, k: int = 3, **more: Any) -> dict:
    return {"op": "conv", "batch": batch, "size": size, "inputs": inputs} | (
        {"outputs": outputs, "k": k} | more
    )


def _map(op: str, batch: int, size: int, inputs: int) -> dict:
    return {"op": op, "batch": batch, "size": size, "inputs": inputs, "outputs": 0, "k": 0}


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


def main(config, *, every_lowering: bool = False) -> int:
    """Measure every case in a process of its own, its lowerings in turn."""
    from rich.table import Table

    from benchmarks.cells import run_cell
    from benchmarks.compare import console, facts, finish

    machine = facts(config)
    cases = CONVOLUTIONS if every_lowering else CONVOLUTIONS | OTHERS
    more = {"seconds": 0.25, "windows": 5, "all": every_lowering}
    results = {}
    for name, case in cases.items():
        with console.status(name):
            cell = Cell(name, "op_case", (json.dumps(case | more),))
            results[name] = run_cell(cell, Path(), threads=config.threads)
    table = Table("operation", "lowering", title="ms forward / with both gradients")
    for heading in ("forward", "gradients", "x default", "temp MiB", "of default's"):
        table.add_column(heading, justify="right")
    for name, result in results.items():
        if "missing" in result:
            table.add_row(name, result["missing"])
            continue
        base = result["rows"]["default"]
        for lowering, parts in result["rows"].items():
            forward, both = parts["forward"], parts["with gradients"]
            memory = both["temp_mib"] / max(base["with gradients"]["temp_mib"], 0.1)
            table.add_row(
                name if lowering == "default" else "",
                lowering,
                f"{forward['ms']:.2f}",
                f"{both['ms']:.2f}",
                f"{base['with gradients']['ms'] / both['ms']:.2f}",
                f"{both['temp_mib']:.1f}",
                f"{memory:.2f}",
            )
    console.print(table)
    job = "tune" if every_lowering else "ops"
    return finish(job, config, machine, {"rows": results})


if __name__ == "__main__":
    from benchmarks.compare import BenchmarkConfig

    sys.exit(cli.run(BenchmarkConfig, main))
