"""A page that reads the digit you draw on it, or the picture you drop on it.

python -m experiments.serve           the newest run under runs/; without one it trains first
python -m experiments.serve RUN       a run's directory, or its model.safetensors
"""

import socket
import sys
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import tyro

from mnistjax import cli
from mnistjax.errors import Stopped, StorageError, UsageError
from mnistjax.platforms import PLATFORMS, choose_platform
from mnistjax.runs.directory import ARCHIVE, began

RUNS = Path("runs")


@dataclass(frozen=True, kw_only=True)
class ServeConfig(cli.Config):
    """Serve a page that reads what is drawn on it or dropped on it; Ctrl-C ends it."""

    run: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = None
    """A finished run, or its model.safetensors; default: the newest under runs/."""
    host: str = "127.0.0.1"
    """Address to serve on; 0.0.0.0: every machine of the network may ask."""
    port: int = 8000
    """Port to serve on; 0: any that is free."""
    platform: Annotated[str | None, tyro.conf.arg(metavar="|".join(PLATFORMS))] = None
    """Device kind; default: the best there is."""

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        UsageError.unless_in("--platform", self.platform or "cpu", PLATFORMS)
        if not 0 <= self.port < 65536:
            raise UsageError(f"--port {self.port}", "must lie in 0..65535", fix="pass --port 8000")
        if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
            fix = "pip install 'mnistjax[serve]'"
            raise UsageError("the page", f"{missing[0]} is not installed", fix=fix)
        if self.run is not None and not self.run.expanduser().exists():
            fix = "pass the directory of a finished run"
            raise StorageError(str(self.run), "no such run or file", fix=fix)


def main(config: ServeConfig) -> int:
    """Serve until a signal comes, which raises `Stopped`."""
    from mnistjax.inference.serve.run import listening

    with listening(config.host, config.port) as bound:  # first: training takes longer
        run = config.run or newest_finished() or trained_on_digits(config)
        return serve(config, run.expanduser(), bound)


def serve(config: ServeConfig, run: Path, bound: socket.socket) -> int:
    """Serve what `run` holds on `bound`."""
    import numpy as np

    from mnistjax.inference.classifier import load
    from mnistjax.inference.serve.app import make_app
    from mnistjax.inference.serve.run import names_of, serve_until_signal, url_of
    from mnistjax.inference.serve.training_images import training_images

    choose_platform(config.platform)
    classifier = load(run)
    classifier.logits(np.zeros((1, *classifier.form.shape), np.uint8))  # compiles it
    training = partial(training_images, run, classifier.about)
    app = make_app(classifier, training=training, hosts=names_of(bound, config.host))
    print(f"{run}: {classifier}\n{url_of(bound)} reads what you draw there. Ctrl-C ends it.")
    if number := serve_until_signal(app, bound):
        fix = f"python -m experiments.serve {run} serves it again"
        raise Stopped(number, "the page is served no longer", fix=fix)
    return 0


def newest_finished() -> Path | None:
    """The run under runs/ that began last of those that hold a trained network."""
    runs = [path.parent for path in RUNS.glob(f"*/{ARCHIVE}")]
    return max(runs, key=began, default=None)


def trained_on_digits(config: ServeConfig) -> Path:
    """A run of the small CNN on the bundled digits: half a minute, no network."""
    from experiments import scratch

    print("no finished run under runs/: training on the bundled digits first")
    scratch.main(scratch.ScratchConfig(dataset="digits", platform=config.platform))
    run = newest_finished()
    assert run is not None
    return run


if __name__ == "__main__":
    sys.exit(cli.run(ServeConfig, main))
