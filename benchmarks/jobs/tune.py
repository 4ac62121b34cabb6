"""Every lowering of every convolution: `python -m benchmarks tune`. See `ops`."""

from benchmarks.harness.job import BenchmarkConfig, finish, machine_facts
from benchmarks.jobs.ops import CONVOLUTIONS, measure


def main(config: BenchmarkConfig) -> int:
    """Measure every case in a process of its own, its lowerings in turn."""
    machine = machine_facts(config)
    rows = measure(config, CONVOLUTIONS, every_lowering=True)
    return finish("tune", config, machine, {"rows": rows})
