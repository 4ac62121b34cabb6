"""What trains when and at which rate, as text: `head:3,block3:2@1e-5`. Imports no jax."""

from typing import NamedTuple

from mnistjax.errors import UsageError
from mnistjax.models.vgg16_table import BLOCKS


class Part(NamedTuple):
    """One step of `stages`: from its first epoch on, `name` trains too, at its own rate."""

    name: str
    epochs: int
    rate: float | None


def blocks_of(cut: str) -> list[str]:
    """The blocks up to `cut`.

    >>> blocks_of("block3")
    ['block1', 'block2', 'block3']
    """
    return list(BLOCKS[: BLOCKS.index(cut) + 1])


def parse_stages(text: str, cut: str) -> list[Part]:
    """`head:3,block3:2@1e-5`: three epochs of the head, then two of block3 as well, at its rate.

    Raises `UsageError` for what is not of this form, or a block that `cut` leaves out.

    >>> parse_stages("head:3,block3:2@1e-5", "block3")
    [Part(name='head', epochs=3, rate=None), Part(name='block3', epochs=2, rate=1e-05)]
    """
    parts = []
    for item in text.split(","):
        name, _, rest = item.strip().partition(":")
        epochs, _, rate = rest.partition("@")
        try:
            parts.append(Part(name, int(epochs), float(rate) if rate else None))
        except ValueError:
            why = f"{item!r} is not NAME:EPOCHS or NAME:EPOCHS@RATE"
            raise UsageError(f"`stages` {text}", why, fix=_EXAMPLE) from None
    names = [part.name for part in parts]
    good = all(part.epochs >= 1 and (part.rate is None or 0 < part.rate < 1) for part in parts)
    if names[0] != "head" or len(set(names)) < len(names) or not good:
        why = "the head comes first, each part once, epochs from 1 and rates between 0 and 1"
        raise UsageError(f"`stages` {text}", why, fix=_EXAMPLE)
    check_blocks("`stages`", names[1:], cut)
    return parts


def check_blocks(what: str, names: list[str], cut: str) -> None:
    """Raise `UsageError` for a block that is none of those up to `cut`."""
    for name in names:
        UsageError.unless_in(what, name, blocks_of(cut))


_EXAMPLE = "pass for example `stages=head:3,block3:2@1e-5`"


def trained_blocks(names: list[str], cut: str) -> list[str]:
    """All blocks from the first of `names` on: before it nothing is trained, so it is frozen.

    >>> trained_blocks(["block2"], "block3"), trained_blocks([], "block3")
    (['block2', 'block3'], [])
    """
    blocks = blocks_of(cut)
    return blocks[min((blocks.index(name) for name in names), default=len(blocks)) :]
