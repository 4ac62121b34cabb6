"""The line that a training begins with."""

from pathlib import Path

import jax
from rich.markup import escape

from mnistjax.data.copies import copies_in, examples_in
from mnistjax.data.dataset import Dataset, Split
from mnistjax.data.prefetch import placement


def in_one_line(
    data: Dataset, splits: tuple[Split, Split | None], *, epochs: int, directory: Path
) -> str:
    """What is about to be trained on which of `data`, where and how often, as rich's markup.

    `splits` are (training, validation).

    >>> from mnistjax.data.digits import load_digits
    >>> digits = load_digits()
    >>> in_one_line(digits, (digits.train, None), epochs=5, directory=Path("run")).split(" (")[0]
    'digits: 1,437 training, no validation, 360 test images'
    """
    train, validation = splits
    kind, count = jax.local_devices()[0].device_kind, jax.device_count()
    held_out = f"{len(validation.labels):,}" if validation else "no"
    copies = f" in {copies_in(train.images)} copies" if copies_in(train.images) > 1 else ""
    return (
        f"{escape(data.name)}: {examples_in(train):,} training{copies}, {held_out} validation,"
        f" {len(data.test.labels):,} test images ({escape(data.origin)}) · {epochs} epochs"
        f" · {kind if count == 1 else f'{count} x {kind}'} · {placement(train)}"
        f" · {escape(str(directory))}"
    )
