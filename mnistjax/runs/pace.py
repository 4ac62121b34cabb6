"""When a run stops, and when it saves within an epoch: what `fit` asks after every step."""

import time

from mnistjax.runs.options import RunOptions
from mnistjax.runs.signals import StopSignals
from mnistjax.training.loop import SAVE


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
        self.signals, self.step = signals, step
        self._saved, self._time = step, time.monotonic()
        self._steps = options.save_steps or float("inf")
        self._seconds = 60 * (options.save_minutes or float("inf"))

    def __call__(self) -> bool | str:
        """True to stop, SAVE to save and go on."""
        if self.signals.requested:
            return True
        by_steps = self.step // self._steps > self._saved // self._steps
        by_clock = time.monotonic() - self._time >= self._seconds
        if not (by_steps or by_clock or self.signals.save_requested):
            return False
        self._saved, self._time, self.signals.save_requested = self.step, time.monotonic(), False
        return SAVE
