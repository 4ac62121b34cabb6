"""Do two cells compute the same? What differs, in a few words; "" if nothing does."""

from collections.abc import Callable
from typing import Any

import numpy as np

Facts = dict[str, Any]
Same = Callable[[Facts, Facts], str]


def same_features(ours: Facts, theirs: Facts, *, tolerance: float = 1e-3) -> str:
    """Channel means of the features agree to `tolerance` of their norm."""
    a, b = np.array(ours["checks"]), np.array(theirs["checks"])
    error = float(np.linalg.norm(a - b) / np.linalg.norm(a))
    return "" if error < tolerance else f"features differ by {error:.1e}"


def same_losses(ours: Facts, theirs: Facts, *, first: float = 1e-4, last: float = 0.02) -> str:
    """The first loss agrees to 1e-4, the last to 2 %: Keras places Adam's epsilon elsewhere."""
    start, end = (abs(ours["losses"][i] / theirs["losses"][i] - 1) for i in (0, -1))
    return "" if start < first and end < last else f"losses differ by {start:.1e}, {end:.1e}"


def same_photos(ours: Facts, theirs: Facts) -> str:
    """The same labels, and pixels alike to 1 %: everybody has a filter of their own."""
    (a, labels), (b, others) = ours["checks"], theirs["checks"]
    if labels != others:
        return f"labels sum up to {labels:g} and {others:g}"
    return "" if abs(a / b - 1) < 0.01 else f"sums of pixels differ by {abs(a / b - 1):.1e}"


def same_epoch(ours: Facts, theirs: Facts) -> str:
    """The sums over one epoch agree to 1e-4: of pixels, and of pixels times labels."""
    a, b = np.array(ours["checks"]), np.array(theirs["checks"])
    error = float(np.abs(a / b - 1).max())
    return "" if error < 1e-4 else f"sums over the epoch differ by {error:.1e}"
