"""What a fine-tuning trains on: features of every split, and of changed copies of its images."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from mnistjax.data.augment import Augmentation
from mnistjax.data.batches import Batch
from mnistjax.data.copies import changed_copies, join
from mnistjax.data.dataset import Dataset, Split
from mnistjax.frozen.features import FrozenPart, frozen_features


class Prepared(NamedTuple):
    """Features where they are cached, else images, and how the steps of a run get at the former."""

    examples: Split
    """Those given, before any was held out."""
    train: Split
    """What is not held out, in as many copies as are kept."""
    validation: Split | None
    test: Split
    through: Callable[[Batch], Batch]
    on_host: Callable[[np.ndarray], np.ndarray]
    """From images of the host to features there."""
    augment: Augmentation | None
    """How training images are changed."""
    copies: int
    """Of how many versions of each features are kept."""
    facts: dict[str, Any]
    """For the summary, as `Features.facts`."""

    @property
    def augment_in_steps(self) -> Augmentation | None:
        """What is left to do for the steps: nothing where copies are kept."""
        return self.augment if self.copies == 1 else None


def prepare(
    part: FrozenPart,
    data: Dataset,
    examples: Split,
    *,
    part_off: Callable[[Dataset, Split], tuple[Split, Split | None]],
    augment: Augmentation | None = None,
    copies: int = 4,
    limit_bytes: int | None,
    quiet: bool = False,
) -> Prepared:
    """What the frozen `part` makes of `examples` of `data`, of which `part_off` holds some out.

    With `augment`, features of so many `copies` of the examples are kept, the first of them as they
    are; an epoch sees one of each (`Copies`). They are the same for every seed, so also of those
    that this one's holds out, where only the first counts. Without a cache (`limit_bytes` None), or
    a block that is frozen, images are changed anew in every step. Raises as `frozen_features`.
    """
    keeps = limit_bytes is not None and part.blocks
    changed = changed_copies(examples, augment, copies if keeps else 1)
    own = [] if data.validation is None else [data.validation]
    splits = [examples, *changed, data.test, *own]
    got = frozen_features(
        part, splits, limit_bytes=limit_bytes, copies=len(changed) + 1, quiet=quiet
    )
    count = len(changed) + 1
    seen = replace(data, validation=got.splits[-1]) if own else data
    parted = [part_off(seen, copy) for copy in got.splits[:count]]
    return Prepared(
        examples=got.splits[0],
        train=join([kept for kept, _ in parted]),
        validation=parted[0][1],
        test=got.splits[count],
        through=got.through,
        on_host=got.on_host,
        augment=augment,
        copies=count,
        facts=got.facts | ({"copies": count} if changed else {}),
    )
