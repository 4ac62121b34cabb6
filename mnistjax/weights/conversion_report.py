"""The page that says what was loaded: every tensor with shape, norm and digest."""

import hashlib

import numpy as np
from rich.console import Console
from rich.table import Table

from mnistjax.weights.pixels import PIXELS
from mnistjax.weights.source import Weights


def print_report(console: Console, weights: Weights) -> None:
    """Print a table of the tensors of `weights`, and where they come from."""
    rows = Table("tensor", "shape")
    rows.add_column("L2 norm", justify="right")
    rows.add_column("SHA-256, first 16")
    count = 0
    for layer, tensors in weights.params.items():
        for role, array in tensors.items():
            norm = np.linalg.norm(array.astype(np.float64))
            digest = hashlib.sha256(np.ascontiguousarray(array, "<f4").data).hexdigest()
            shape = "x".join(map(str, array.shape))
            rows.add_row(f"{layer}/{role}", shape, f"{norm:.4f}", digest[:16])
            count += array.size
    console.print(rows)
    facts = {
        "parameters": f"{count:,}",
        "origin": weights.origin,
        "layout": weights.layout,
        "preprocessing": PIXELS[weights.pixels],
        "source SHA-256": weights.sha256,
        "ignored layers": ", ".join(weights.ignored),
        "NOTE": weights.notice,
    }
    for name, value in facts.items():
        if value or name == "ignored layers":
            line = f"{name}: {value or 'none'}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
