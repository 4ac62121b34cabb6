"""`python -m benchmarks [report | compare BEFORE AFTER | JOB] [flags]`."""

import sys
from collections.abc import Sequence

from benchmarks.registry import JOBS
from mnistjax import cli
from mnistjax.errors import UsageError

COMMANDS = ("report", "compare")


def main(argv: Sequence[str]) -> int:
    """Hand over to the command, the job or the suite that `argv` names."""
    if not argv or argv[0].startswith("-"):
        from benchmarks import suite

        return cli.run(suite.SuiteConfig, suite.main, argv)
    name, rest = argv[0], argv[1:]
    try:
        UsageError.unless_in("command", name, [*COMMANDS, *JOBS])
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if name == "report":
        from benchmarks.tables import report

        return cli.run(report.ReportConfig, report.main, rest)
    if name == "compare":
        from benchmarks.tables import compare

        return cli.run(compare.CompareConfig, compare.main, rest)
    from benchmarks import suite

    return cli.run(*suite.program(name), rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
