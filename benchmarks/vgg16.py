"""VGG16's convolutions forward, three sizes, beside its peers: `python -m benchmarks.vgg16`."""

import sys
from functools import partial

from benchmarks.cells import Cell
from mnistjax import cli

CELLS = (
    Cell("mnistjax", "ours_vgg16"),
    Cell("Keras 3 on TensorFlow", "keras_vgg16", ("tensorflow",), "tensorflow"),
    Cell("PyTorch channels_last", "torch_vgg16", ("channels_last",), "torch"),
    Cell("PyTorch torch.compile", "torch_vgg16", ("compile",), "torch"),
    Cell("PyTorch contiguous", "torch_vgg16", ("contiguous",), "torch"),
    Cell("JAX the usual way", "jax_usual_vgg16"),
)
BATCHES = {32: 64, 64: 32, 224: 4}


def main(config) -> int:
    """Measure every cell at every size; the exit code is 0 also where peers are missing."""
    from benchmarks.compare import compare, facts, finish, same_features
    from benchmarks.problems import vgg16_flops, vgg16_problem

    machine = facts(config)
    result = {
        f"{size}x{size}": compare(
            config,
            f"VGG16 forward, {size}x{size}, batch {batch}, float32, {config.threads} threads",
            CELLS,
            problem=partial(vgg16_problem, size=size, batch=batch),
            images=batch,
            flops=vgg16_flops(size),
            same=same_features,
        )
        for size, batch in BATCHES.items()
    }
    return finish("vgg16", config, machine, result)


if __name__ == "__main__":
    from benchmarks.compare import BenchmarkConfig

    sys.exit(cli.run(BenchmarkConfig, main))
