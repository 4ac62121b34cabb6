"""`--unfreeze` and `--stages`: what trains when and at which rate, from flags to optimisers.

Nothing imports jax before an optimiser is asked for: wrong flags are answered at once.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mnistjax.errors import UsageError
from mnistjax.models.vgg16_table import BLOCKS

if TYPE_CHECKING:
    import optax

    from mnistjax.models.functional import Params
    from mnistjax.runs.plan import Stage

HEAD = "head/dense*"


class Part(NamedTuple):
    """One step of `--stages`: from its first epoch on, `name` trains too, at its own rate."""

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
            raise UsageError(f"--stages {text}", why, fix=_EXAMPLE) from None
    names = [part.name for part in parts]
    good = all(part.epochs >= 1 and (part.rate is None or 0 < part.rate < 1) for part in parts)
    if names[0] != "head" or len(set(names)) < len(names) or not good:
        why = "the head comes first, each part once, epochs from 1 and rates between 0 and 1"
        raise UsageError(f"--stages {text}", why, fix=_EXAMPLE)
    check_blocks("--stages", names[1:], cut)
    return parts


def check_blocks(flag: str, names: list[str], cut: str) -> None:
    """Raise `UsageError` for a block that is none of those up to `cut`."""
    for name in names:
        UsageError.unless_in(flag, name, blocks_of(cut))


_EXAMPLE = "pass for example --stages head:3,block3:2@1e-5"


def trained_blocks(names: list[str], cut: str) -> list[str]:
    """All blocks from the first of `names` on: before it nothing is trained, so it is frozen.

    >>> trained_blocks(["block2"], "block3"), trained_blocks([], "block3")
    (['block2', 'block3'], [])
    """
    blocks = blocks_of(cut)
    return blocks[min((blocks.index(name) for name in names), default=len(blocks)) :]


class Adam(NamedTuple):
    """How the optimiser of every group is made: its rate, its decay, and whether the rate falls."""

    rate: float
    weight_decay: float
    cosine: bool

    def over(self, steps: int, *, after: int = 0) -> "optax.GradientTransformation":
        """AdamW for `steps` steps, `after` so many that the same parameters trained before."""
        import jax.numpy as jnp
        import optax

        fall = optax.cosine_decay_schedule(self.rate, steps)
        rate = (lambda count: fall(jnp.maximum(count - after, 0))) if self.cosine else self.rate
        return optax.adamw(rate, weight_decay=self.weight_decay)


def one_stage(
    params: "Params", unfrozen: Sequence[str], adam: Adam, *, epochs: int, steps: int
) -> "list[Stage]":
    """The head and the `unfrozen` blocks from the first step on, all at one rate."""
    import optax

    from mnistjax.runs.plan import Stage
    from mnistjax.training.freeze import freeze_mask

    trainable = [HEAD, *(f"backbone/{block}_*" for block in unfrozen)]
    frozen = freeze_mask(params, trainable=trainable)
    tx = optax.selective_transform(adam.over(epochs * steps), freeze_mask=frozen)
    return [Stage(epochs, tx, frozen)]


def several_stages(
    params: "Params", parts: Sequence[Part], adam: Adam, *, steps: int
) -> "list[Stage]":
    """A stage per part; what an earlier stage trained goes on, each rate falls within its stage."""
    from mnistjax.runs.plan import Stage
    from mnistjax.training.groups import group_by_path

    stages, begun, until = [], {}, 0
    for i, part in enumerate(parts):
        first, until = until, until + part.epochs
        begun[part.name] = first
        groups: dict[str, optax.GradientTransformation | None] = {}
        for j, other in enumerate(parts):
            pattern = HEAD if other.name == "head" else f"backbone/{other.name}_*"
            own = adam._replace(rate=other.rate or adam.rate)
            # Of a group's own steps, those of earlier stages have passed.
            groups[pattern] = (
                own.over(part.epochs * steps, after=(first - begun[other.name]) * steps)
                if j <= i
                else None
            )
        stages.append(Stage(until, *group_by_path(params, groups | {"*": None})))
    return stages
