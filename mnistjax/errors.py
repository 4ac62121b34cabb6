"""Every way a run can be refused: one line that says what to do, and an exit code."""

import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class MnistjaxError(Exception):
    """An error for the user, not for a debugger: `<what>: <why>. Fix: <one action>`.

    Arguments stand in backquotes, `batch_size` or `batch_size=128`: a command line turns them into
    its flags (`mnistjax.flag_checks.as_flags`).

    Args:
      what: the thing at fault, with its name: a flag, a path.
      why: what is wrong with it.
      fix: one action that mends it.

    >>> str(MnistjaxError("`epochs` 0", "must be at least 1", fix="pass `epochs=5`"))
    '`epochs` 0: must be at least 1. Fix: pass `epochs=5`'
    """

    exit_code = 1

    def __init__(self, what: str, why: str, *, fix: str) -> None:
        self.what, self.why, self.fix = what, why, fix
        one_line = " ".join(f"{what}: {why.rstrip('.')}. Fix: {fix}".split())
        super().__init__(one_line)


class UsageError(MnistjaxError):
    """The command line or the configuration is wrong."""

    exit_code = 2

    @classmethod
    def unless_in(cls, what: str, value: str, choices: Sequence[str]) -> None:
        """Raise if `value` is none of `choices`, naming the closest one.

        >>> UsageError.unless_in("`pool`", "mx", ["avg", "max"])
        Traceback (most recent call last):
        mnistjax.errors.UsageError: `pool` mx: not one of avg, max. Fix: did you mean max?
        """
        if value not in choices:
            close = difflib.get_close_matches(value, choices, n=1, cutoff=0.4)
            fix = f"did you mean {close[0]}?" if close else "pass one of them"
            raise cls(f"{what} {value}", f"not one of {', '.join(choices)}", fix=fix)


class DataError(MnistjaxError):
    """A data set is missing, damaged or not what it says it is."""

    exit_code = 3


class NetworkError(DataError):
    """A download is not to be had: no network, no answer, a broken transfer."""

    def __init__(self, what: str, why: str, *, fix: str, mends: bool = False) -> None:
        super().__init__(what, why, fix=fix)
        self.told = f"{why}; {fix}" if mends else why
        """For a notice: the reason, and the fix if it `mends` the network itself."""


class WeightsError(MnistjaxError):
    """Pretrained weights are missing, damaged, unsafe or of another network."""

    exit_code = 4


class StorageError(MnistjaxError):
    """A run directory or checkpoint cannot be read or written."""

    exit_code = 5


class NumericalError(MnistjaxError):
    """The loss stopped being a number."""

    exit_code = 6


class PeerLost(MnistjaxError):
    """Another process of the same run ended, or cannot be reached."""

    exit_code = 8
    FIX = "see what it said; start all again with `resume=True`, fewer if need be"


# XLA's and JAX's words, which come as ValueError and as JaxRuntimeError.
_PEER = re.compile(r"gloo|coordination.?service|distributed service|preempted", re.IGNORECASE)


@contextmanager
def as_peer_lost() -> Iterator[None]:
    """Raise `PeerLost` for what JAX raises where another process is gone.

    >>> with as_peer_lost():
    ...     raise ValueError("UNKNOWN: Gloo all-reduce failed: Connection closed by peer")
    Traceback (most recent call last):
    mnistjax.errors.PeerLost: another process: has ended. Fix: see what it said; start all again with `resume=True`, fewer if need be
    """  # noqa: E501
    try:
        yield
    except MnistjaxError:
        raise
    except Exception as error:
        if not _PEER.search(str(error)):
            raise
        raise PeerLost("another process", "has ended", fix=PeerLost.FIX) from error


class Stopped(MnistjaxError):
    """A signal ended the work, and what was done is kept: no fault, but nothing is returned.

    >>> str(Stopped(2, "step 7 is saved", fix="train again"))
    'interrupted: step 7 is saved. Fix: train again'
    """

    def __init__(self, signal: int, what: str, *, fix: str) -> None:
        super().__init__("interrupted", what, fix=fix)
        self.signal = signal
        self.exit_code = 128 + signal


def warn(line: str) -> None:
    """One line for the user on stderr: something was wrong, and the run goes on."""
    print(f"warning: {line}", file=sys.stderr)
