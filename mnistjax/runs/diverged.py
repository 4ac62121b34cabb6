"""What a run says when its numbers are lost: with which rate, and what is still good."""

from collections.abc import Iterator
from contextlib import contextmanager

from mnistjax.errors import NumericalError
from mnistjax.runs.checkpoint import Checkpoints
from mnistjax.runs.settings import Settings


@contextmanager
def explained(settings: Settings, checkpoints: Checkpoints) -> Iterator[None]:
    """A `NumericalError` inside names the learning rate and the last good checkpoint as well."""
    try:
        yield
    except NumericalError as error:
        steps = checkpoints.steps
        good = f"the last good checkpoint is step {steps[-1]}" if steps else "nothing was saved yet"
        rate = settings.get("learning_rate")
        at = f" at `learning_rate={rate.value:g}`" if rate else ""
        fix = "pass a smaller `learning_rate` and another `directory`"
        raise NumericalError(error.what, f"{error.why}{at}; {good}", fix=fix) from error
