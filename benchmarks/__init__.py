"""How fast, against what, on which machine: `python -m benchmarks`."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
