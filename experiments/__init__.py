"""Thin programs over the library: parse a dataclass, call `mnistjax`."""

import contextlib
import os
import signal
import sys


def _end(number: int, _: object) -> None:
    """Say so in one line and end: no exception, since imports and callbacks swallow those.

    Of 47 KeyboardInterrupts in the two seconds of importing jax, 13 were; one ended in SIGABRT.
    """
    line = "error: interrupted. Fix: run it again, with --resume if it had begun to train\n"
    shown = b"\x1b[?25h" if os.isatty(2) else b""  # a progress bar hides the cursor
    with contextlib.suppress(OSError):
        os.write(2, shown + line.encode())
    os._exit(128 + number)


if sys.argv[:1] == ["-m"]:  # `python -m experiments.NAME`, and before anything else is imported
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as of what a script starts by &
        signal.signal(signal.SIGINT, _end)
    if hasattr(signal, "SIGUSR1"):  # "save now", of which there is nothing yet
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
