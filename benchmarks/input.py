"""The data path alone: shuffle, gather a batch, pixels to 0..1: `python -m benchmarks.input`.

60,000 images of 28x28, as many as MNIST has; every batch of 128 is made, nothing is trained. That
all examples come once an epoch is checked by sums of pixels and labels.
"""

import sys
from typing import Any

import numpy as np

from benchmarks.cells import Cell
from benchmarks.compare import BenchmarkConfig, compare, facts, finish
from benchmarks.problems import BATCH, input_problem
from mnistjax import cli

IMAGES = 60_000
CELLS = (
    Cell("mnistjax, a batch a call", "ours_input", ("loop",)),
    Cell("mnistjax, an epoch in a scan", "ours_input", ("scan",)),
    Cell("PyTorch, tensors indexed", "torch_input", ("tensors",), "torch"),
    Cell("PyTorch, DataLoader", "torch_input", ("loader",), "torch"),
    Cell("tf.data", "tensorflow_input", (), "tensorflow"),
)


def same_epoch(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """The sums over one epoch agree to 1e-4: of pixels, and of pixels times labels."""
    a, b = np.array(ours["checks"]), np.array(theirs["checks"])
    error = float(np.abs(a / b - 1).max())
    return "" if error < 1e-4 else f"sums over the epoch differ by {error:.1e}"


def main(config) -> int:
    """Measure every cell; the exit code is 0 also where peers are missing."""
    machine = facts(config)
    result = compare(
        config,
        f"{IMAGES:,} images of 28x28 in batches of {BATCH}, {config.threads} threads",
        CELLS,
        problem=input_problem,
        images=IMAGES,
        flops=0,
        same=same_epoch,
    )
    return finish("input", config, machine, result)


if __name__ == "__main__":
    sys.exit(cli.run(BenchmarkConfig, main))
