"""A run that is stopped goes on to the same bits: Ctrl-C, SIGTERM, kill -9, or more epochs.

The first Ctrl-C lets the step in hand end, saves it and raises `mj.Stopped`; after kill -9 the last
whole epoch is there. Start this program again and it goes on with what it finds.
"""

from pathlib import Path

from flax import nnx

import mnistjax as mj

data = mj.load_dataset("digits")


def train(directory: str, *, epochs: int) -> str:
    """The digest of the best parameters after so many epochs, wherever it was stopped before."""
    begun = Path(directory, "config.json").exists()
    options = mj.RunOptions(resume=begun, quiet=True)
    model = mj.Head(map_shape=(28, 28, 1), rngs=nnx.Rngs(0))  # two dense layers
    run = mj.train(model, data, directory, epochs=epochs, options=options)
    return run.summary["params_sha256"]


try:
    train("runs/in-two-parts", epochs=1)
    in_two_parts = train("runs/in-two-parts", epochs=2)
    at_once = train("runs/at-once", epochs=2)
except mj.Stopped as stopped:
    raise SystemExit(f"{stopped}") from None
print("the same bits" if in_two_parts == at_once else "not the same bits", at_once[:12])
