"""Ctrl-C, SIGTERM and SIGHUP as a question the loop asks after every step; SIGUSR1 asks to save."""

import signal
import threading
from types import FrameType

# By name: Windows has no SIGHUP and no SIGUSR1.
STOP, SAVE = ("SIGINT", "SIGTERM", "SIGHUP"), "SIGUSR1"


class StopSignals:
    """While entered, the first SIGINT, SIGTERM or SIGHUP only raises a flag; the second acts.

    SIGUSR1 raises another, `save_requested`. A signal to stop that is ignored stays so: SIGHUP
    under nohup, SIGINT of what a script started by `&`. Python tells only the main thread of
    signals: in another one nothing is done here.

    >>> with StopSignals() as stop:
    ...     stop.requested
    False
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.save_requested = False
        self._before: dict[int, object] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.number is not None

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for name in (*STOP, SAVE):
                number = getattr(signal, name, None)
                if number is None or (name != SAVE and signal.getsignal(number) == signal.SIG_IGN):
                    continue
                handler = self._save if name == SAVE else self._stop
                self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _stop(self, number: int, _: FrameType | None) -> None:
        self.number = number
        self.__exit__()

    def _save(self, number: int, _: FrameType | None) -> None:
        self.save_requested = True
