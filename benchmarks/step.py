"""The small CNN's training step, batch 128, beside its peers: `python -m benchmarks.step`."""

import sys

from benchmarks.cells import Cell
from benchmarks.problems import BATCH
from mnistjax import cli

CELLS = (
    Cell("mnistjax, a step a call", "ours_cnn", ("step",)),
    Cell("mnistjax, 20 steps in a scan", "ours_cnn", ("scan",)),
    Cell("Keras 3 on TensorFlow", "keras_cnn", ("tensorflow",), "tensorflow"),
    Cell("PyTorch contiguous", "torch_cnn", ("contiguous",), "torch"),
    Cell("PyTorch channels_last", "torch_cnn", ("channels_last",), "torch"),
    Cell("PyTorch torch.compile", "torch_cnn", ("compile",), "torch"),
    Cell("Keras 3 on JAX", "keras_cnn", ("jax",), "tensorflow"),
    Cell("JAX the usual way", "jax_usual_cnn"),
)


def main(config) -> int:
    """Measure every cell; the exit code is 0 also where peers are missing."""
    from benchmarks.compare import compare, facts, finish, same_losses
    from benchmarks.problems import cnn_problem, cnn_step_flops

    machine = facts(config)
    result = compare(
        config,
        f"training step of the small CNN, batch {BATCH}, float32, {config.threads} threads",
        CELLS,
        problem=cnn_problem,
        images=BATCH,
        flops=cnn_step_flops(),
        same=same_losses,
    )
    return finish("step", config, machine, result)


if __name__ == "__main__":
    from benchmarks.compare import BenchmarkConfig

    sys.exit(cli.run(BenchmarkConfig, main))
