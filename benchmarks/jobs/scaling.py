"""The small CNN's step at batch sizes 1 to 8192, and over 1 to 8 devices by a mesh and by pmap.

    python -m benchmarks scaling

On a CPU the devices are virtual ones that share its cores: those rows show what dividing a batch
and summing over devices costs, not what more devices gain.
"""

from benchmarks.harness.cells import Cell
from benchmarks.harness.flops import cnn_step_flops
from benchmarks.harness.job import BenchmarkConfig, asked_for, finish, machine_facts
from benchmarks.harness.measure import collect
from benchmarks.harness.problems import cnn_problem
from benchmarks.tables import screen
from benchmarks.tables.summary import summarise

BATCHES = [4**n for n in range(7)] + [8192]
DEVICES, SHARED_BATCH = (1, 2, 4, 8), 1024
VIRTUAL = "virtual devices: shows overhead, not speed-up"


def cells() -> dict[Cell, int]:
    """Each cell, and the images of one step of it."""
    sizes = {
        Cell(f"batch {batch}", "ours_scaling", ("jit", str(batch), "1")): batch for batch in BATCHES
    }
    shared = {
        Cell(
            f"batch {SHARED_BATCH}, {count} devices, {form}",
            "ours_scaling",
            (form, str(SHARED_BATCH), str(count)),
        ): SHARED_BATCH
        for count in DEVICES
        for form in ("mesh", "pmap")
    }
    return sizes | shared


def main(config: BenchmarkConfig) -> int:
    """Measure every cell; one that cannot run, or waits for ever, is a row that says why."""
    machine, images = machine_facts(config), cells()
    chosen = asked_for(config, [*images])
    title = f"training step of the small CNN, float32, {config.threads} threads"
    peaks, facts = collect(config, title, chosen, cnn_problem)
    flops, peak = cnn_step_flops(), peaks.get("gemm_gflops")
    rows = {
        cell.name: summarise(facts[cell.name], images=images[cell], flops=flops, peak_gflops=peak)
        for cell in chosen
    }
    if machine["platform"] == "cpu":
        for cell in chosen:
            if cell.arguments[-1] != "1":
                rows[cell.name]["note"] = VIRTUAL
    screen.print_rows(title, rows)
    if machine["platform"] == "cpu":
        screen.console.print(f"several devices are {VIRTUAL}", highlight=False)
    peaks = {name: peaks.get(name) for name in ("gemm_gflops", "copy_gb_per_s")}
    return finish("scaling", config, machine, {"peaks": peaks, "rows": rows})
