"""Checkpoints on a disk that is full, forbidden, or forgets."""

import logging
import os
import resource
import shutil
import threading
from pathlib import Path

import jax
import optax
import pytest
from test_checkpoint import make_state

from mnistjax.errors import StorageError
from mnistjax.files import params_sha256
from mnistjax.runs import checkpoint, snapshot
from mnistjax.runs.checkpoint import Checkpoints
from mnistjax.runs.orbax import without_orbax_log
from mnistjax.training.state import init_state


@pytest.mark.parametrize("name", ["file", "file/x", "dangling"])
def test_a_directory_that_cannot_be_made_is_a_storage_error(tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StorageError, match="Fix:"):
        Checkpoints(tmp_path / name)


def test_saved_is_said_only_when_it_can_be_read(tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as saves:
        monkeypatch.setattr(Path, "rename", lambda *_: None)  # says yes, does nothing
        with pytest.raises(StorageError):
            saves.save(1, make_state(), extra={})
        assert saves.steps == []


def test_what_was_saved_is_on_disk_when_save_returns(tmp_path, monkeypatch):
    kept = []
    for module, name in ((snapshot, "keep"), (checkpoint, "keep_on_disk")):
        monkeypatch.setattr(module, name, lambda *paths: kept.extend(paths))
    with Checkpoints(tmp_path) as saves:
        saves.save(1, make_state(), extra={})
    saved = {path.name for path in (tmp_path / "1").rglob("*")}
    assert saved <= {path.name for path in kept} and len(saved) > 10
    assert kept[-1] == tmp_path  # after the rename


class files_of_at_most:
    """A disk that is full, without root: no file grows beyond so many bytes."""

    def __init__(self, size):
        self.size = size

    def __enter__(self):
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.before[1]))

    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


def test_a_full_disk_is_an_error_with_a_hint_and_the_last_step_is_whole(tmp_path, capfd, caplog):
    noise = jax.random.normal(jax.random.key(0), (500, 500))
    state = init_state({"w": noise}, optax.sgd(0.1))
    with Checkpoints(tmp_path) as saves:
        saves.save(1, state, extra={})
        with (
            files_of_at_most(500_000),
            pytest.raises(StorageError, match=r"1,000,004 bytes needed, [\d,]+ free"),
        ):
            saves.save(2, state, extra={})
        assert saves.steps == [1]
    assert capfd.readouterr().err == ""
    assert not caplog.records  # absl writes to the stderr that was there when it was imported
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    saved = Checkpoints(tmp_path).newest(like=lambda _: state)
    assert saved and params_sha256(saved.state) == params_sha256(state)


def test_a_disk_too_small_is_told_before_training(tmp_path, monkeypatch):
    saves = Checkpoints(tmp_path)
    saves.check_room(make_state())
    usage = shutil.disk_usage(tmp_path)._replace(free=400)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match="need 492 bytes, 400 are free"):
        saves.check_room(make_state())


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_directory_that_may_not_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "run").mkdir()
    tmp_path.chmod(0o500)
    user = os.geteuid()
    if user == 0:  # permissions mean nothing to root
        os.seteuid(65534)
    try:
        with pytest.raises(StorageError, match="denied.*Fix: "):
            Checkpoints(tmp_path / "run" / "checkpoints")
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o700)


class SlowThread(threading.Thread):
    """Logs an error after the save has failed: not before somebody waits for it."""

    __module__ = "orbax.checkpoint"

    def __init__(self):
        super().__init__()
        self.go = threading.Event()

    def run(self):
        self.go.wait()
        logging.getLogger("absl").error("no such directory")

    def join(self, timeout=None):
        self.go.set()
        super().join(timeout)


def test_a_failed_save_waits_for_its_threads_and_what_they_log_is_not_shown(caplog):
    thread = SlowThread()
    with pytest.raises(OSError, match="full"), without_orbax_log():
        thread.start()
        raise OSError("full")
    thread.join()
    assert not caplog.records
