"""Is one recipe better than another, or was it luck?

python -m experiments.compare A B        B minus A, with its interval, over the seeds of both
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments.config import check_path
from mnistjax import cli


@dataclass(frozen=True, kw_only=True)
class CompareConfig(cli.Config):
    """Compare two finished runs, best of several seeds each, on their test images."""

    flag_of = {"directory": "directory"}

    a: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="A")]]
    """A run directory; of --seeds, all of its runs."""
    b: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="B")]]
    """Another, scored on the same test images."""

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        check_path("a", self.a)
        check_path("b", self.b)


def main(config: CompareConfig) -> int:
    """Say what the difference is and whether it means anything; the exit code is 0."""
    from mnistjax.inference.compare import compare_runs, say_comparison

    print(say_comparison(compare_runs(config.a, config.b), str(config.a), str(config.b)))
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(CompareConfig, main))
