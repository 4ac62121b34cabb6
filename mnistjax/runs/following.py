"""A run as all processes but the first see it: the same steps, and no directory of their own."""

from collections.abc import Iterable

from mnistjax.processes import share
from mnistjax.runs.plan import Plan
from mnistjax.training.loop import EpochEnd, Event, Interrupted
from mnistjax.training.state import TrainState

OWN = {"process_id", "output", "data_dir", "weights", "quiet", "debug"}
"""Settings that each process may have as it likes; of data and weights the digests tell."""


class Follower:
    """In place of a `Recorder`: goes through the events of a run, and writes nothing."""

    def __init__(self, plan: Plan) -> None:
        self._early = plan.early_stopping is not None
        self.finished = False

    def follow(self, events: Iterable[Event], state: TrainState) -> TrainState:
        """Go through `events` to their end; the state after the last epoch, or before the first."""
        for event in events:
            if isinstance(event, Interrupted):
                return event.state
            if isinstance(event, EpochEnd):
                state = event.state
                if self.patience_is_over(event.step):
                    break
        return state

    def patience_is_over(self, step: int) -> bool:
        """What process 0 says of early stopping after `step`, from the checkpoints it has."""
        self.finished = self._early and share()
        return self.finished

    def tell(self, line: str) -> None:
        """Process 0 tells it."""
