"""One seed of `experiments.scratch --preset quick`, as a command of its own has it."""

import json
import sys
import tempfile
from pathlib import Path

from benchmarks.harness.timing import say_facts
from experiments.scratch import ScratchConfig, main
from mnistjax import cli

_, _, data_dir, seed, _ = sys.argv
with tempfile.TemporaryDirectory() as place:
    run = Path(place) / "run"
    argv = ["--preset", "quick", "--dataset", "mnist", "--data-dir", data_dir, "--seed", seed]
    if code := cli.run(ScratchConfig, main, [*argv, "--quiet", "--output", str(run)]):
        sys.exit(code)
    summary = json.loads((run / "summary.json").read_text())
say_facts(
    versions={name: summary["versions"][name] for name in ("jax", "flax")},
    accuracy=summary["test_accuracy"],
    train_seconds=summary["train_seconds"],
)
