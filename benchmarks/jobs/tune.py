"""Every lowering of every convolution: `python -m benchmarks tune`. See `ops`."""

from functools import partial

from benchmarks.jobs import ops

main = partial(ops.main, every_lowering=True)
