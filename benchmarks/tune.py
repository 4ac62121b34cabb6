"""Every lowering of every convolution: `python -m benchmarks.tune`. See `benchmarks.ops`."""

import sys
from functools import partial

from benchmarks.compare import BenchmarkConfig
from benchmarks.ops import main
from mnistjax import cli

if __name__ == "__main__":
    sys.exit(cli.run(BenchmarkConfig, partial(main, every_lowering=True)))
