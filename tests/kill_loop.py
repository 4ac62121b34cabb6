"""Kill a tiny run, resume it, and again, until it ends: `kill_loop.py KILLS SEED MODEL`.

Half of the kills come at a random moment, half just before or after a random one of the calls
that make or remove a file. Prints, as JSON, what test_kills.py asserts. The parent imports JAX
but never touches a backend: only then may it fork children that do.
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from stateful_models import linen_model, nnx_model

from mnistjax.data.dataset import Split
from mnistjax.files import params_sha256
from mnistjax.runs.best import by_loss
from mnistjax.runs.directory import CONFIG
from mnistjax.runs.log import read_rows
from mnistjax.runs.options import RunOptions
from mnistjax.runs.plan import Plan, Stage
from mnistjax.runs.settings import Setting
from mnistjax.runs.snapshot import UNFINISHED, is_whole, read_record
from mnistjax.runs.train_run import train_run

IMAGES, BATCH = 12, 6
STEPS = IMAGES // BATCH  # of an epoch; each epoch is saved
CALLS = [(os, "rename"), (os, "replace"), (os, "unlink"), (os, "fsync"), (shutil, "rmtree")]
CALLS_OF_A_SAVE = 60


def apply_fn(params, images):
    maps = jax.lax.conv_general_dilated(
        images, params["conv"], (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jax.nn.relu(maps).reshape(len(images), -1) @ params["dense"]


def train(directory: Path, *, epochs: int, model: str = "plain") -> str:
    """Start the run in `directory`, or go on with it; the digest of its result."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (2, IMAGES, 8, 8, 1)).astype(np.uint8)
    labels = draw.integers(0, 3, (2, IMAGES)).astype(np.int32)
    params = {
        "conv": jnp.asarray(draw.normal(size=(3, 3, 1, 4)), jnp.float32),
        "dense": jnp.asarray(draw.normal(size=(36, 3)), jnp.float32),
    }
    of, model_state = apply_fn, ()
    if model in ("NNX", "Linen"):  # with BatchNorm and Dropout
        images = images[:, :, :4, :4]
        of, params, model_state = {"NNX": nnx_model, "Linen": linen_model}[model]()
    stages, best, patience = [Stage(epochs, optax.adam(1e-3))], 0, None
    if model == "staged":  # another optimiser on the way, and an end before the last epoch
        stages = [Stage(epochs // 3, optax.sgd(1e-3)), *stages]
        best, patience = epochs - 4, 2
    plan = Plan(
        apply_fn=of,
        params=params,
        model_state=model_state,
        stages=stages,
        train=Split(images[0], labels[0]),
        validation=Split(images[1], labels[1]),
        batch_size=BATCH,
        score=by_loss if patience is None else lambda row: -abs(row["epoch"] - best),
        early_stopping=patience,
    )
    save_steps = 1 if model == "staged" else None  # within epochs, too
    resume = (directory / CONFIG).is_file()
    options = RunOptions(resume=resume, quiet=True, save_steps=save_steps)
    settings = {"epochs": Setting(epochs, may_change=True), "batch_size": Setting(BATCH)}
    trained = train_run(plan, directory, settings=settings, options=options)
    return params_sha256((trained.params, trained.model_state))


def plant(number: int, *, after: bool) -> None:
    """Die, as by SIGKILL, just before or after the call `number` of `CALLS`, counted over all."""
    calls = 0

    def dying(real):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            mine = calls == number
            if mine and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args, **kwargs)
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for module, name in CALLS:
        setattr(module, name, dying(getattr(module, name)))


def child(directory: Path, epochs: int, model: str, planted: tuple[int, bool] | None) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        if planted:
            plant(planted[0], after=planted[1])
        (directory / "digest").write_text(train(directory, epochs=epochs, model=model))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def ended(pid: int, *, kill_after: float | None, directory: Path) -> int:
    """The wait status of `pid`; killed so many seconds after it has committed a checkpoint."""
    before, deadline = newest(directory), None
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status
        now = time.monotonic()
        if deadline is None and kill_after is not None and newest(directory) != before:
            deadline = now + kill_after
        if deadline is not None and now >= deadline:
            os.kill(pid, signal.SIGKILL)
            return os.waitpid(pid, 0)[1]
        time.sleep(0.001)


def newest(directory: Path) -> int:
    """The newest step saved: under its name, or sealed just before it got that."""
    places = [*(directory / "checkpoints").glob("*")]
    sealed = [
        int(name)
        for place in places
        if (name := place.name.removesuffix(UNFINISHED)).isdecimal()
        if place.name == name or is_whole(place, int(name))
    ]
    return max(sealed, default=0)


def one_run(
    directory: Path,
    *,
    epochs: int,
    model: str,
    kills: int,
    draw: random.Random,
    seconds_of_a_save: float = 0,
) -> dict[str, int]:
    """Train in `directory` through `kills` kills; how many there were, and of what kind."""
    seen = {"kills": 0, "planted": 0, "while_saving": 0}
    while True:
        planted = kill_after = None
        if seen["kills"] < kills and draw.random() < 0.5:
            planted = draw.randint(1, 2 * CALLS_OF_A_SAVE), draw.random() < 0.5
        elif seen["kills"] < kills:
            kill_after = draw.uniform(0, 2 * seconds_of_a_save)
        saved = newest(directory)
        pid = child(directory, epochs, model, planted)
        status = ended(pid, kill_after=kill_after, directory=directory)
        assert newest(directory) >= saved, "a saved checkpoint is gone"
        if not os.WIFSIGNALED(status):
            assert status == 0, f"the child failed after {seen}"
            return seen
        seen["kills"] += 1
        seen["planted"] += planted is not None
        seen["while_saving"] += any((directory / "checkpoints").glob(f"*{UNFINISHED}*"))


def rows(directory: Path) -> list[dict]:
    return [
        {name: value for name, value in row.items() if "second" not in name}
        for row in read_rows(directory / "metrics.jsonl")
    ]


def main(kills: int, seed: int, model: str) -> None:
    epochs = 3 * kills  # more than so many kills let pass
    with tempfile.TemporaryDirectory() as place:
        whole, killed = Path(place) / "whole", Path(place) / "killed"
        # The first run leaves its programs, the killed one only reads them: 1 s less per kill.
        jax.config.update("jax_compilation_cache_dir", f"{place}/programs")
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        one_run(whole, epochs=epochs, model=model, kills=0, draw=random.Random(0))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 3600)
        times = sorted(path.stat().st_mtime for path in (whole / "checkpoints").iterdir())
        seen = one_run(
            killed,
            epochs=epochs,
            model=model,
            kills=kills,
            draw=random.Random(seed),
            seconds_of_a_save=times[-1] - times[-2],
        )
        last = [read_record(run / "checkpoints" / str(newest(whole))) for run in (whole, killed)]
        steps = [row["step"] for row in rows(killed) if row["kind"] == "step"]
        found = seen | {
            "same_bits": (whole / "digest").read_text() == (killed / "digest").read_text(),
            "same_state": last[0].leaves == last[1].leaves,
            "same_rows": rows(whole) == rows(killed),
            "each_step_once": steps == list(range(1, newest(whole) + 1)),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
