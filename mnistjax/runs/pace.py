"""When a run stops, and when it saves within an epoch: what `fit` asks after every step."""

import time

from mnistjax.processes import Agreement
from mnistjax.runs.options import RunOptions
from mnistjax.runs.signals import StopSignals
from mnistjax.training.loop import SAVE

SAVING = 1  # as a wish, of which the largest counts; those to stop are larger


class Pace:
    """`fit`'s `should_stop`: by signals, by steps and by the clock.

    >>> pace = Pace(StopSignals(), RunOptions(save_steps=2), step=4)
    >>> answers = []
    >>> for _ in range(3):
    ...     pace.step += 1
    ...     answers.append(pace())
    >>> answers
    [False, 'save', False]
    """

    def __init__(self, signals: StopSignals, options: RunOptions, *, step: int) -> None:
        self._signals, self.step = signals, step
        self.number: int | None = None
        """The signal by which all processes stop."""
        self._agree = Agreement()
        self._saved, self._time = step, time.monotonic()
        self._steps = options.save_steps or float("inf")
        self._seconds = 60 * (options.save_minutes or float("inf"))

    def __call__(self) -> bool | str:
        """True to stop, SAVE to save and go on: as any of several processes was told to."""
        return self._obey(self._agree(self._wish()))

    def ended(self) -> bool:
        """Whether to stop where no call is left: what a signal since the last one asks for, too."""
        return self._obey(self._agree.now(self._wish())) is True

    def _obey(self, wish: int) -> bool | str:
        if wish > SAVING:
            self.number = wish - SAVING
        return True if self.number else SAVE if wish else False

    def _wish(self) -> int:
        """0, or SAVING, or more than that by the number of a signal to stop."""
        if self._signals.number is not None:
            return SAVING + self._signals.number
        by_steps = self.step // self._steps > self._saved // self._steps
        by_clock = time.monotonic() - self._time >= self._seconds
        if not (by_steps or by_clock or self._signals.save_requested):
            return 0
        self._saved, self._time, self._signals.save_requested = self.step, time.monotonic(), False
        return SAVING
