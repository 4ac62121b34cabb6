"""Damaged files: the right answer or one clean error, within a second and 200 MB each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

COUNTS = {
    **{"idx": 8000, "idx.gz": 8000, "png": 2000, "jpeg": 2000, "safetensors": 2000},
    **{"npz": 500, "zip": 500, "csv": 500, "cifar": 200, "mat": 500, "mat, plain": 500},
}
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")


def fuzz(*arguments):
    command = [sys.executable, str(Path(__file__).parent / "fuzz_files.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", COUNTS)
def test_damaged_files_give_the_right_answer_or_one_error(tmp_path, name):
    outcomes = fuzz(name, str(COUNTS[name]), "0", str(tmp_path))
    assert set(outcomes) == {"right", "refused"}, outcomes


def test_what_was_found_once_is_refused_now():
    """Each was read as if whole, or took more memory than there is."""
    outcomes = fuzz("corpus")
    assert len(outcomes) >= 4
    assert set(outcomes.values()) == {"refused"}, outcomes
