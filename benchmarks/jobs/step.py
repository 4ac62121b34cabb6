"""The small CNN's training step, batch 128, beside its peers: `python -m benchmarks step`."""

from benchmarks.harness.cells import Cell
from benchmarks.harness.flops import cnn_step_flops
from benchmarks.harness.job import BenchmarkConfig, finish, machine_facts
from benchmarks.harness.measure import measure_in_turn
from benchmarks.harness.problems import BATCH, cnn_problem
from benchmarks.harness.same import same_losses

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


def main(config: BenchmarkConfig) -> int:
    """Measure every cell; the exit code is 0 also where peers are missing."""
    machine = machine_facts(config)
    result = measure_in_turn(
        config,
        f"training step of the small CNN, batch {BATCH}, float32, {config.threads} threads",
        CELLS,
        problem=cnn_problem,
        images=BATCH,
        flops=cnn_step_flops(),
        same=same_losses,
    )
    return finish("step", config, machine, result)
