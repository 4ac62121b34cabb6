"""The data path alone: shuffle, gather a batch, pixels to 0..1: `python -m benchmarks input`.

60,000 images of 28x28, as many as MNIST has; every batch of 128 is made, nothing is trained. That
all examples come once an epoch is checked by sums of pixels and labels.
"""

from benchmarks.harness.cells import Cell
from benchmarks.harness.job import BenchmarkConfig, finish, machine_facts
from benchmarks.harness.measure import measure_in_turn
from benchmarks.harness.problems import BATCH, input_problem
from benchmarks.harness.same import same_epoch

IMAGES = 60_000
CELLS = (
    Cell("mnistjax, a batch a call", "ours_input", ("loop",)),
    Cell("mnistjax, an epoch in a scan", "ours_input", ("scan",)),
    Cell("PyTorch, tensors indexed", "torch_input", ("tensors",), "torch"),
    Cell("PyTorch, DataLoader", "torch_input", ("loader",), "torch"),
    Cell("tf.data", "tensorflow_input", (), "tensorflow"),
)


def main(config: BenchmarkConfig) -> int:
    """Measure every cell; the exit code is 0 also where peers are missing."""
    machine = machine_facts(config)
    result = measure_in_turn(
        config,
        f"{IMAGES:,} images of 28x28 in batches of {BATCH}, {config.threads} threads",
        CELLS,
        problem=input_problem,
        images=IMAGES,
        flops=0,
        same=same_epoch,
    )
    return finish("input", config, machine, result)
