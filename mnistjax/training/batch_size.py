"""How many examples a step takes, and how many steps: what works, and what is usual."""

from mnistjax.errors import UsageError

USUAL, STEPS_OF_AN_EPOCH = 128, 4
MIN_STEPS, MIN_EPOCHS, MAX_EPOCHS = 500, 5, 50


def usual_batch_size(examples: int, devices: int = 1) -> int:
    """128, or on a small set the power of two that makes `STEPS_OF_AN_EPOCH` steps of an epoch.

    At least one for each of `devices`.

    >>> usual_batch_size(54_000), usual_batch_size(1_293), usual_batch_size(72)
    (128, 128, 16)
    """
    few = max(examples // STEPS_OF_AN_EPOCH, 1)
    size = USUAL if few >= USUAL else 2 ** (few.bit_length() - 1)
    return -(-size // devices) * devices


def usual_epochs(examples: int, batch_size: int, least: int = MIN_EPOCHS) -> int:
    """`least` epochs, or on a small set as many as make 500 steps, at most 50.

    >>> usual_epochs(54_000, 128), usual_epochs(1_293, 128)
    (5, 46)
    """
    enough = -(-MIN_STEPS // -(-examples // batch_size))
    return max(least, min(enough, MAX_EPOCHS))


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
