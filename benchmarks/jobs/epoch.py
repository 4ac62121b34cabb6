"""A whole epoch of the small CNN, shuffled anew: one program, or a loop of steps.

    python -m benchmarks epoch

The images (`--images`, real digits repeated) are on the device, their order is drawn in every
epoch. One call an epoch leaves the host nothing to do between steps; on a CPU the gradients of
plain `lax.conv` fall to naive loops inside a scan (jax#12868), which the last peer shows.
"""

from dataclasses import dataclass
from functools import partial

from benchmarks.harness.cells import Cell
from benchmarks.harness.flops import cnn_step_flops
from benchmarks.harness.job import BenchmarkConfig, finish, machine_facts
from benchmarks.harness.measure import measure_in_turn
from benchmarks.harness.problems import BATCH, cnn_problem
from benchmarks.harness.same import same_losses
from mnistjax.errors import UsageError

CELLS = (
    Cell("mnistjax, one program", "ours_epoch", ("scan",)),
    Cell("mnistjax, as fit calls it", "ours_epoch", ("loop",)),
    Cell("Keras 3 on TensorFlow, fit", "keras_epoch", ("tensorflow",), "tensorflow"),
    Cell("PyTorch, tensors indexed", "torch_epoch", ("tensors",), "torch"),
    Cell("PyTorch, DataLoader", "torch_epoch", ("loader",), "torch"),
    Cell("JAX the usual way, a loop", "jax_usual_epoch", ("loop",)),
    Cell("JAX the usual way, a scan", "jax_usual_epoch", ("scan",)),
)


@dataclass(frozen=True, kw_only=True)
class JobConfig(BenchmarkConfig):
    """The epoch, by the library and by peers."""

    images: int = 40 * BATCH
    """Training images of an epoch, a multiple of 128."""

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        super().validate()
        if self.images < 20 * BATCH or self.images % BATCH:
            why = f"must be a multiple of {BATCH}, at least {20 * BATCH}"
            raise UsageError(f"--images {self.images}", why, fix="pass --images 60032")


def main(config: JobConfig) -> int:
    """Measure every cell; the exit code is 0 also where peers are missing."""
    machine = machine_facts(config)
    result = measure_in_turn(
        config,
        f"an epoch of {config.images:,} images, small CNN, batch {BATCH}, float32,"
        f" {config.threads} threads",
        CELLS,
        problem=partial(cnn_problem, steps=config.images // BATCH),
        images=config.images,
        flops=cnn_step_flops(),
        same=same_losses,
    )
    return finish("epoch", config, machine, result | {"images": config.images})
