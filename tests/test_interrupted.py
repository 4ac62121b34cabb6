"""Interrupting is safe, from the first import to the last line, and so is looking on."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mnistjax as mj
from mnistjax.data.dataset import Split
from mnistjax.errors import NumericalError, StorageError
from mnistjax.runs.directory import reserved
from mnistjax.runs.signals import StopSignals

ROOT = Path(__file__).parent.parent
DATA = Split(
    np.arange(40 * 4, dtype=np.uint8).reshape(40, 2, 2, 1), np.arange(40, dtype="int32") % 3
)
TX = optax.adam(0.1)


def linear(params, images):
    return images.reshape(len(images), -1) @ params["w"]


def steps(**more) -> dict[str, Any]:
    return {
        "train_step": mj.make_train_step(apply_fn=linear, tx=TX),
        "eval_step": mj.make_eval_step(apply_fn=linear),
        "train": DATA,
        "validation": DATA,
        "epochs": 3,
        "batch_size": 8,
        "seed": 0,
    } | more


def alive(tree):
    return not any(leaf.is_deleted() for leaf in jax.tree.leaves(tree))


def test_nothing_that_the_caller_holds_is_deleted_by_an_interrupted_loop():
    params = {"w": jnp.zeros((4, 3))}
    state, held = mj.init_state(params, TX), []
    with pytest.raises(KeyboardInterrupt):
        for event in mj.fit(state, **steps()):
            if isinstance(event, mj.EpochEnd):
                held.append((event.state, np.asarray(event.state.params["w"])))
            if event.step == 12:
                raise KeyboardInterrupt
    assert alive((params, state, [kept for kept, _ in held])) and len(held) == 2
    for kept, copy in held:  # nor written over
        np.testing.assert_array_equal(kept.params["w"], copy)
    assert alive(mj.init_state(params, TX))
    again = [*mj.fit(held[0][0], **steps())][-1]
    assert again.epoch == 3


def test_nor_by_numbers_that_are_lost():
    params = {"w": jnp.zeros((4, 3))}
    state = mj.init_state(params, TX)
    lost = mj.make_train_step(apply_fn=lambda p, x: linear(p, x) / 0, tx=TX)
    with pytest.raises(NumericalError):
        list(mj.fit(state, **steps(train_step=lost)))
    assert alive((params, state))


@pytest.mark.parametrize("devices", [None, 1])
def test_a_step_that_keeps_its_state_gives_the_same(devices):
    mesh = None if devices is None else mj.data_mesh(jax.local_devices()[:1])
    params = {"w": jnp.ones((4, 3))}
    batch = mj.Batch(jnp.asarray(DATA.images), jnp.asarray(DATA.labels), jnp.ones(40, bool))
    keeps = mj.make_train_step(apply_fn=linear, tx=TX, mesh=mesh, donate=False)
    state = mj.init_state(params, TX)
    kept, _ = keeps(state, batch)
    assert alive(state)
    gone, _ = mj.make_train_step(apply_fn=linear, tx=TX, mesh=mesh)(state, batch)
    np.testing.assert_array_equal(kept.params["w"], gone.params["w"])


INTERRUPTS = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["AT"]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""


IMPORTED = ["tyro", "jax._src.core", "flax.nnx", "orbax.checkpoint", "scipy.ndimage"]


@pytest.mark.parametrize("at", IMPORTED)
def test_ctrl_c_while_importing_ends_in_one_line(tmp_path, at):
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTS)
    done = subprocess.run(
        [sys.executable, "-m", "experiments.scratch", "--dataset", "digits", "--output", "run"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "AT": at},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (130, ""), done.stderr
    assert done.stderr.count("\n") == 1 and "error: interrupted. Fix: " in done.stderr


def test_what_is_ignored_stays_ignored():
    """`nohup`, and what a script starts by `&`."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGINT)
            assert not stop.requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_sighup_stops_as_sigterm_does():
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.number == signal.SIGHUP
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL  # the second one acts


def test_in_a_thread_nothing_is_listened_for():
    seen = []

    def work():
        with StopSignals() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


def test_runs_that_start_in_one_second_have_directories_of_their_own(tmp_path):
    with (
        reserved(tmp_path / "runs", "scratch-1") as a,
        reserved(tmp_path / "runs", "scratch-1") as b,
    ):
        (b / "config.json").touch()
        assert (a.name, b.name) == ("scratch-1", "scratch-1-2")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["scratch-1-2"]
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="Fix: "), reserved(tmp_path / "file", "scratch-1"):
        pass


LOOKS_ON = """
import sys
import mnistjax as mj
looked = mj.Checkpoints(sys.argv[1])
print(looked.steps)
try:
    with looked:
        print("entered")
except mj.MnistjaxError as error:
    print(error)
"""


def test_another_process_may_look_on_and_not_write(tmp_path):
    state = mj.init_state({"w": jnp.zeros(2)}, TX)
    with mj.Checkpoints(tmp_path) as saves:
        saves.save(1, state, extra={})
        (tmp_path / "2.unfinished").mkdir()
        looks = [sys.executable, "-c", LOOKS_ON, str(tmp_path)]
        out = subprocess.run(looks, capture_output=True, text=True, check=True).stdout
        assert out.startswith("[1]\n") and "a run is writing there" in out
        with pytest.raises(StorageError, match="a run is writing there"), mj.Checkpoints(tmp_path):
            pass
        assert (tmp_path / "2.unfinished").exists()
    out = subprocess.run(looks, capture_output=True, text=True, check=True).stdout
    assert out == "[1]\nentered\n"
