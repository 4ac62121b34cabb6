"""One seed of `python -m experiments.scratch --preset quick`, run as a program in this process."""

import json
import runpy
import sys
import tempfile
from pathlib import Path

from benchmarks.harness.timing import say_facts

_, _, data_dir, seed, _ = sys.argv
with tempfile.TemporaryDirectory() as place:
    run = Path(place) / "run"
    flags = ["--preset", "quick", "--dataset", "mnist", "--data-dir", data_dir, "--seed", seed]
    sys.argv = ["experiments.scratch", *flags, "--quiet", "--output", str(run)]
    try:
        runpy.run_module("experiments.scratch", run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise
    summary = json.loads((run / "summary.json").read_text())
say_facts(
    versions={name: summary["versions"][name] for name in ("jax", "flax")},
    accuracy=summary["test_accuracy"],
    train_seconds=summary["train_seconds"],
)
