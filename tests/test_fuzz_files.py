"""Damaged files: the right answer or one clean error, within a second and 200 MB each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Of each enough that some are read right: of 1,000 compressed .mat files that is 5.
COUNTS = {
    **{"idx": 1000, "idx.gz": 1000, "png": 250, "jpeg": 250, "safetensors": 500},
    **{"npz": 60, "zip": 100, "csv": 60, "cifar": 25, "mat": 500, "mat, plain": 60},
}
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")


def fuzz(*arguments):
    command = [sys.executable, str(Path(__file__).parent / "fuzz_files.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return json.loads(done.stdout)


@pytest.mark.parametrize("times", [1, pytest.param(8, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", COUNTS)
def test_damaged_files_give_the_right_answer_or_one_error(tmp_path, name, times):
    outcomes = fuzz(name, str(times * COUNTS[name]), "0", str(tmp_path))
    assert set(outcomes) == {"right", "refused"}, outcomes


def test_what_was_found_once_is_refused_now():
    """Each was read as if whole, or took more memory than there is."""
    outcomes = fuzz("corpus")
    assert len(outcomes) >= 4
    assert set(outcomes.values()) == {"refused"}, outcomes
