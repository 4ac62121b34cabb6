"""What a run says when its numbers are lost: with which rate, and what is still good."""

from collections.abc import Iterator
from contextlib import contextmanager

from experiments.config import RunConfig
from mnistjax.errors import NumericalError
from mnistjax.runs.checkpoint import Checkpoints


@contextmanager
def explained(config: RunConfig, checkpoints: Checkpoints) -> Iterator[None]:
    """A `NumericalError` inside names the learning rate and the last good checkpoint as well."""
    try:
        yield
    except NumericalError as error:
        steps = checkpoints.steps
        good = f"the last good checkpoint is step {steps[-1]}" if steps else "nothing was saved yet"
        why = f"{error.why} at --learning-rate {config.learning_rate:g}; {good}"
        fix = "pass a smaller --learning-rate and another --output"
        raise NumericalError(error.what, why, fix=fix) from error
