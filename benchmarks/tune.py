"""Every lowering of every convolution: `python -m benchmarks.tune`. See `benchmarks.ops`."""

import sys
from functools import partial

from benchmarks import ops
from mnistjax import cli

main = partial(ops.main, every_lowering=True)

if __name__ == "__main__":
    from benchmarks.compare import BenchmarkConfig

    sys.exit(cli.run(BenchmarkConfig, main))
