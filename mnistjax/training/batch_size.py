"""Which batch sizes work: for so many examples, over so many devices."""

from mnistjax.errors import UsageError


def check_divides(batch_size: int, devices: int, *, what: str = "`batch_size`") -> None:
    """Raise `UsageError`, naming the nearest sizes that do, unless every device gets as many rows.

    >>> check_divides(100, 8)
    Traceback (most recent call last):
    mnistjax.errors.UsageError: `batch_size` 100: does not divide by 8 devices. Fix: pass 96 or 104
    """
    if batch_size % devices:
        below = batch_size // devices * devices
        near = " or ".join(str(size) for size in (below, below + devices) if size)
        why = f"does not divide by {devices} devices"
        raise UsageError(f"{what} {batch_size}", why, fix=f"pass {near}")


def check_batch_size(batch_size: int, examples: int) -> None:
    """Raise `UsageError` for a batch larger than all there is.

    >>> check_batch_size(256, 180)
    Traceback (most recent call last):
    mnistjax.errors.UsageError: `batch_size` 256: there are only 180 training examples. Fix: pass `batch_size=128`
    """  # noqa: E501
    if batch_size > examples:
        why = f"there are only {examples} training examples"
        raise UsageError(
            f"`batch_size` {batch_size}", why, fix=f"pass `batch_size={min(128, examples)}`"
        )
