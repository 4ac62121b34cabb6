import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.scratch import ScratchConfig, main
from mnistjax import cli
from mnistjax.errors import StorageError
from mnistjax.runs import claim
from mnistjax.runs.lock import hold

HOLDER = """
import sys
from pathlib import Path
from mnistjax.runs.lock import hold
hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""
ROOT = Path(__file__).parent.parent


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path` until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_directory_in_use_is_refused_and_free_when_its_process_is_killed(holder, tmp_path):
    for _ in range(2):  # refusing leaves the owner's name there
        with pytest.raises(StorageError, match=f"in use by pid {holder.pid} on host .*Fix: "):
            hold(tmp_path)
    holder.kill()
    holder.wait()
    hold(tmp_path)
    hold(tmp_path)  # ours already
    assert f"pid {os.getpid()} on" in (tmp_path / ".lock").read_text()


def test_two_runs_in_one_directory_are_refused(holder, tmp_path, capsys):
    argv = ["--dataset", "digits", "--output", str(tmp_path), "--quiet"]
    assert cli.run(ScratchConfig, main, argv) == 5
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"in use by pid {holder.pid}" in err
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_directory_that_another_process_has_just_used_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(claim, "hold", lambda run: (run / "config.json").write_text("{}"))
    argv = ["--dataset", "digits", "--output", str(tmp_path / "run"), "--quiet"]
    assert cli.run(ScratchConfig, main, argv) == 5
    assert "has just been used" in capsys.readouterr().err


def test_a_directory_without_permission_is_a_storage_error(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(StorageError, match="Fix: "):
        hold(tmp_path)
