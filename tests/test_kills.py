import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def kill_loop(kills, seed, model="plain"):
    command = [sys.executable, str(ROOT / "tests" / "kill_loop.py"), str(kills), str(seed), model]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found["kills"] == kills
    if model == "plain":
        assert found["while_saving"] > 0 and found["planted"] > 0  # else nothing is proved
    assert found["same_bits"] and found["same_state"]
    assert found["same_rows"] and found["each_step_once"]
    assert "is damaged" not in done.stderr  # whatever was committed is whole


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kills", [3, pytest.param(8, marks=pytest.mark.soak)])
def test_a_run_killed_some_times_equals_one_never_killed(kills):
    kill_loop(kills, seed=0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.soak
@pytest.mark.parametrize("model", ["NNX", "Linen"])
def test_with_batch_norm_and_dropout_too(model):
    kill_loop(2, seed=1, model=model)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.soak
def test_with_stages_early_stopping_and_saves_within_epochs_too():
    kill_loop(100, seed=2, model="staged")


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 6))
def test_a_run_killed_a_hundred_times_equals_one_never_killed(seed):
    kill_loop(100, seed)


@pytest.mark.soak
def test_two_processes_killed_fifty_times_equal_one_that_never_was():
    command = [sys.executable, str(ROOT / "tests" / "kill_two.py"), "50", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found["kills"] == 50 and found["same_bits"] and found["same_rows"]
    assert found["while_saving"] > 5 and found["of_the_second"] > 5  # else nothing is proved
