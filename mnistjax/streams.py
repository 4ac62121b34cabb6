"""Standard output and error that may go away: a reader that leaves, a full disk, a narrow charset.

What a run says is not worth the run: `python -m experiments.scratch | head -1` trains to its end.
"""

import io
import sys


class _Lossy(io.FileIO):
    def write(self, data, /) -> int | None:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def make_lossy() -> None:
    """Let `sys.stdout` and `sys.stderr` drop what cannot be written, and "?" what has no character.

    Streams that are closed or that another has put in place are left as they are.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream is not getattr(sys, f"__{name}__"):
            continue
        stream.flush()
        raw = _Lossy(stream.fileno(), "w", closefd=False)
        lossy = io.TextIOWrapper(
            io.BufferedWriter(raw), stream.encoding, errors="replace", line_buffering=True
        )
        setattr(sys, name, lossy)
