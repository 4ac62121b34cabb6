"""How a run is kept and shown: nothing here changes what it computes."""

from dataclasses import dataclass

from mnistjax.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What `train` and `train_run` do around the steps.

    >>> RunOptions(keep=1)
    Traceback (most recent call last):
    mnistjax.errors.UsageError: `keep` 1: a damaged checkpoint needs one before it. Fix: pass `keep=2`
    """  # noqa: E501

    resume: bool = False
    """Go on with the run in the directory; without it the directory must be new."""
    keep: int = 2
    """Newest checkpoints to keep, besides the best."""
    tensorboard: bool = False
    """Write TensorBoard events too."""
    quiet: bool = False
    """Show nothing."""
    save_steps: int | None = None
    """Save within an epoch, too, every so many steps."""
    save_minutes: float | None = None
    """Save within an epoch, too, every so many minutes. SIGUSR1 saves at once."""
    log_every: int = 1
    """Write every so many steps to metrics.jsonl; epochs all."""
    again: str = "the same call with RunOptions(resume=True)"
    """What goes on with it, for the message of an interruption."""

    def __post_init__(self) -> None:
        if self.keep < 2:
            why = "a damaged checkpoint needs one before it"
            raise UsageError(f"`keep` {self.keep}", why, fix="pass `keep=2`")
