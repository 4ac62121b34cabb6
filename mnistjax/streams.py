"""Standard output and error that may go away: a reader that leaves, a full disk, a narrow charset.

What a run says is not worth the run: `python -m experiments.scratch | head -1` trains to its end.
"""

import codecs
import io
import sys
import unicodedata

# What our own lines have beyond ASCII, for terminals that have nothing else.
_PLAIN = {"·": "-", "…": "...", "─": "-", "×": "x", "±": "+-", "–": "-", "—": "-"}


def _readable(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: letters without their accents, and "?" for what has no like."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    plain = "".join(_PLAIN.get(c) or unicodedata.normalize("NFKD", c)[0] for c in text)
    return "".join(c if c.isascii() else "?" for c in plain), error.end


codecs.register_error("readable", _readable)


class _Lossy(io.FileIO):
    def write(self, data, /) -> int | None:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def make_lossy() -> None:
    """Let `sys.stdout` and `sys.stderr` drop what cannot be written, and show what has no
    character by the nearest that has, or "?".

    Streams that are closed or that another has put in place are left as they are.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream is not getattr(sys, f"__{name}__"):
            continue
        stream.flush()
        raw = _Lossy(stream.fileno(), "w", closefd=False)
        lossy = io.TextIOWrapper(
            io.BufferedWriter(raw), stream.encoding, errors="readable", line_buffering=True
        )
        setattr(sys, name, lossy)
