"""Photos to batches: JPEG files, shuffled, as squares of 224: `python -m benchmarks photos`.

The first epoch decodes every file, ours into its cache. What counts is every epoch after it: a
DataLoader and Keras's `image_dataset_from_directory` decode all files again, each time.
"""

from benchmarks.harness.cells import Cell
from benchmarks.harness.job import BenchmarkConfig, finish, machine_facts
from benchmarks.harness.measure import measure_in_turn
from benchmarks.harness.problems import PHOTOS, photos_problem
from benchmarks.harness.same import same_photos

CELLS = (
    Cell("mnistjax, from the second epoch on", "ours_photos"),
    Cell("PyTorch, DataLoader with a worker a core", "torch_photos", (), "torch"),
    Cell("Keras, image_dataset_from_directory", "keras_photos", (), "tensorflow"),
)


def main(config: BenchmarkConfig) -> int:
    """Measure every cell; the exit code is 0 also where peers are missing."""
    machine = machine_facts(config)
    result = measure_in_turn(
        config,
        f"{PHOTOS:,} JPEG files of 320x240 as batches of 128 of 224x224, {config.threads} threads",
        CELLS,
        problem=photos_problem,
        images=PHOTOS,
        flops=0,
        same=same_photos,
    )
    return finish("photos", config, machine, result)
