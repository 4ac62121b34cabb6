"""VGG16 beside its peers: convolutions forward by size and dtype, and a whole training step.

    python -m benchmarks vgg16

Forward is what a frozen backbone costs; the training step has gradients of all 13 convolutions and
of a head (flatten, 256, 10), by Adam. In bfloat16 the parameters that train stay float32.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from benchmarks.harness.cells import Cell
from benchmarks.harness.flops import vgg16_flops, vgg16_step_flops
from benchmarks.harness.job import BenchmarkConfig, asked_for, finish, keep, machine_facts
from benchmarks.harness.measure import measure_in_turn
from benchmarks.harness.problems import vgg16_problem, vgg16_training_problem
from benchmarks.harness.same import Same, same_features, same_losses
from mnistjax.errors import UsageError

SIZES = (32, 64, 224)


Batches = dict[str, dict[int, int]]
"""dtype -> side of the images -> batch."""


class Plan(NamedTuple):
    """What a kind of device is asked."""

    forward: Batches
    training: Batches


ON_CPU = Plan(
    {"float32": {32: 64, 64: 32, 224: 4}, "bfloat16": {224: 4}},
    {"float32": {32: 32}, "bfloat16": {32: 32}},
)
# Many times as much work fills an accelerator; chosen by size, none was at hand to choose on.
ON_ACCELERATOR = Plan(
    dict.fromkeys(("float32", "bfloat16"), {32: 8192, 64: 2048, 224: 256}),
    dict.fromkeys(("float32", "bfloat16"), {32: 2048, 224: 64}),
)


def forward_cells(dtype: str) -> tuple[Cell, ...]:
    """Every program that makes features, ours first."""
    return (
        Cell("mnistjax", "ours_vgg16", (dtype,)),
        Cell("Keras 3 on TensorFlow", "keras_vgg16", ("tensorflow", dtype), "tensorflow"),
        Cell("PyTorch channels_last", "torch_vgg16", ("channels_last", dtype), "torch"),
        Cell("PyTorch torch.compile", "torch_vgg16", ("compile", dtype), "torch"),
        Cell("PyTorch contiguous", "torch_vgg16", ("contiguous", dtype), "torch"),
        Cell("JAX the usual way", "jax_usual_vgg16", (dtype,)),
    )


def training_cells(dtype: str) -> tuple[Cell, ...]:
    """Every program that trains, ours first."""
    return (
        Cell("mnistjax", "ours_vgg16_train", (dtype,)),
        Cell("PyTorch channels_last", "torch_vgg16_train", ("channels_last", dtype), "torch"),
        Cell("PyTorch contiguous", "torch_vgg16_train", ("contiguous", dtype), "torch"),
        Cell("JAX the usual way", "jax_usual_vgg16_train", (dtype,)),
    )


class Part(NamedTuple):
    """Forward or a training step: who does it on what, and when two have done the same."""

    cells: Callable[[str], tuple[Cell, ...]]
    problem: Callable[..., None]
    flops: Callable[[int], float]
    same: dict[str, Same]


# bfloat16 has 8 bits: 13 layers of it differ by 1 % from one program to the next.
FORWARD = Part(
    forward_cells,
    vgg16_problem,
    vgg16_flops,
    {"float32": same_features, "bfloat16": partial(same_features, tolerance=2e-2)},
)
TRAINING = Part(
    training_cells,
    vgg16_training_problem,
    vgg16_step_flops,
    {
        "float32": partial(same_losses, first=1e-3, last=0.05),
        "bfloat16": partial(same_losses, first=2e-2, last=0.1),
    },
)


@dataclass(frozen=True, kw_only=True)
class JobConfig(BenchmarkConfig):
    """VGG16's convolutions, and its training step."""

    sizes: tuple[int, ...] = SIZES
    """Sides of the images: of 32, 64, 224."""

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        super().validate()
        for size in self.sizes:
            UsageError.unless_in("--sizes", str(size), [str(size) for size in SIZES])


def main(config: JobConfig) -> int:
    """Measure every cell at every size; the exit code is 0 also where peers are missing."""
    machine = machine_facts(config)
    plan = ON_CPU if machine["platform"] == "cpu" else ON_ACCELERATOR
    asked_for(config, forward_cells("float32"))
    result: dict[str, Any] = {}
    for what, part, batches in (
        ("", FORWARD, plan.forward),
        ("training step, ", TRAINING, plan.training),
    ):
        for name, rows in groups(config, what, part, batches):
            result[name] = rows
            keep("vgg16", config, machine, result)
    return finish("vgg16", config, machine, result)


def groups(
    config: JobConfig, what: str, part: Part, batches: Batches
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A group of rows for each dtype and size; sizes that were not asked for are gaps."""
    for dtype, size in ((dtype, size) for dtype, sizes in batches.items() for size in sizes):
        batch, cells = batches[dtype][size], part.cells(dtype)
        name = f"{what}{size}x{size}" + f", {dtype}" * (dtype != "float32")
        if size not in config.sizes:
            gap = {"status": "not run", "why": f"not among --sizes {config.sizes}"}
            yield name, {"rows": {cell.name: gap for cell in cells}}
        elif not config.only or any(cell.name in config.only for cell in cells):
            yield (
                name,
                measure_in_turn(
                    config,
                    f"VGG16 {what or 'forward, '}{size}x{size}, batch {batch}, {dtype},"
                    f" {config.threads} threads",
                    cells,
                    problem=partial(part.problem, size=size, batch=batch),
                    images=batch,
                    flops=part.flops(size),
                    same=part.same[dtype],
                    dtype=dtype,
                ),
            )
