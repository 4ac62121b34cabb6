"""Several processes are one run: same bits, one directory, and no hang where one is lost."""

import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from several_processes import (
    DIGITS,
    ROOT,
    Group,
    command,
    sbatch,
    without_gloo,
)

import mnistjax as mj
from mnistjax.errors import PeerLost, as_peer_lost
from mnistjax.joining import check_processes
from mnistjax.processes import Agreement, refuse_unless_same, share, share_arrays
from mnistjax.runs.log import read_rows
from mnistjax.runs.pace import Pace
from mnistjax.runs.signals import StopSignals

WHERE = "127.0.0.1:9876"
EPOCHS = "--epochs", "8"


def digest(output: Path) -> str:
    return json.loads((output / "summary.json").read_text())["params_sha256"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def on_two_devices(tmp_path_factory, cache):
    """What one process makes of it on two devices."""
    output = tmp_path_factory.mktemp("one") / "run"
    one = command(*DIGITS, *EPOCHS, "--output", str(output), cache=cache, devices=2)
    _, err = one.communicate(timeout=120)
    assert one.returncode == 0, err
    return output


def test_two_processes_have_the_bits_of_one_with_two_devices(on_two_devices, tmp_path, cache):
    """Started by the batch file of docs/scaling.md."""
    page = (ROOT / "docs" / "scaling.md").read_text()
    (script,) = re.findall(r"^```bash\n(#!/bin/bash\n.*?)^```", page, re.M | re.S)
    done = sbatch(script, *DIGITS, *EPOCHS, place=tmp_path, cache=cache)
    assert (done.returncode, without_gloo(done.stderr)) == (0, "")
    (run,) = (tmp_path / "runs").iterdir()
    assert digest(run) == digest(on_two_devices)
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["process_count"], summary["device_count"]) == (2, 2)
    rows = [read_rows(run / "metrics.jsonl") for run in (run, on_two_devices)]
    losses = [[row["loss"] for row in of if row["kind"] == "step"] for of in rows]
    assert losses[0] == losses[1] and len(losses[0]) == 8 * 5
    assert np.load(run / "test_logits.npz")["logits"].shape == (360, 10)


def test_one_that_is_killed_ends_the_other_and_one_process_goes_on(on_two_devices, tmp_path, cache):
    with Group(2, *EPOCHS, output=tmp_path / "run", cache=cache) as group:
        group.until_epoch(2)
        group.processes[1].kill()
        ((code, said),) = group.ended([0])
    assert code == 8 and said.startswith("error: another process: has ended. Fix: ")
    assert said.count("\n") == 0 and not (tmp_path / "run" / "summary.json").exists()
    flags = *DIGITS, *EPOCHS, "--resume", "--output", str(tmp_path / "run")
    again = command(*flags, cache=cache, devices=2)
    _, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert digest(tmp_path / "run") == digest(on_two_devices)


@pytest.mark.soak
@pytest.mark.parametrize("number", [0, 1])
def test_a_signal_to_one_stops_all_and_all_go_on(number, on_two_devices, tmp_path, cache):
    with Group(2, *EPOCHS, output=tmp_path / "run", cache=cache) as group:
        group.until_epoch(2)
        group.processes[number].send_signal(signal.SIGTERM)
        ended = group.ended()
    assert [code for code, _ in ended] == [143, 143]
    assert ended[0][1].startswith("interrupted: step ") and "is saved" in ended[0][1]
    with Group(2, *EPOCHS, "--resume", output=tmp_path / "run", cache=cache) as group:
        assert group.ended() == [(0, ""), (0, "")]
    assert digest(tmp_path / "run") == digest(on_two_devices)


@pytest.mark.soak
@pytest.mark.parametrize("number", [0, 1])
def test_one_that_stands_still_ends_the_other(number, tmp_path, cache):
    with Group(2, "--epochs", "500", output=tmp_path / "run", cache=cache) as group:
        group.until_epoch(2)
        group.processes[number].send_signal(signal.SIGSTOP)
        ((code, said),) = group.ended([1 - number])
    assert (code, said.partition(".")[0]) == (8, f"error: process {number}: silent for 15 s")


@pytest.mark.soak
def test_the_coordinator_killed_ends_the_other(tmp_path, cache):
    with Group(2, "--epochs", "500", output=tmp_path / "run", cache=cache) as group:
        group.until_epoch(2)
        group.processes[0].kill()
        ((code, said),) = group.ended([1])
    assert code == 8 and said.splitlines()[-1].startswith("error: ")


@pytest.mark.soak
@pytest.mark.parametrize(
    ("count", "flags", "steps"),
    [
        (4, "--model resnet --early-stopping 3", 4),
        (4, "--save-steps 3", 10),
        (2, "--log-every 1", 10),
    ],
)
def test_several_processes_train_as_one_with_four_devices_does(
    count, flags, steps, tmp_path, cache
):
    """Of two, sums have one order; of four, Gloo's is another, and rounding grows.

    Most where batches of five images are normalised: 1e-5 after four steps, 4e-4 after five.
    """
    flags = *EPOCHS, *flags.split()
    with Group(count, *flags, output=tmp_path / "run", cache=cache, devices=4 // count) as group:
        assert group.ended() == [(0, "")] * count
    one = command(*DIGITS, *flags, "--output", str(tmp_path / "one"), cache=cache, devices=4)
    assert one.communicate(timeout=240) and one.returncode == 0
    rows = [read_rows(tmp_path / name / "metrics.jsonl") for name in ("run", "one")]
    losses = [[row["loss"] for row in of if row["kind"] == "step"][:steps] for of in rows]
    assert len(losses[0]) == steps
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.soak
def test_seeds_in_turn_over_two_processes(on_two_devices, tmp_path, cache):
    """Each the run it would be alone; stopped in the second member, both go on."""
    flags = *EPOCHS, "--seeds", "2"
    with Group(2, *flags, output=tmp_path / "run", cache=cache) as group:
        group.until_epoch(2, of="seed-1")
        group.processes[1].send_signal(signal.SIGTERM)
        assert [code for code, _ in group.ended()] == [143, 143]
    with Group(2, *flags, "--resume", output=tmp_path / "run", cache=cache) as group:
        assert group.ended() == [(0, ""), (0, "")]
    assert digest(tmp_path / "run" / "seed-0") == digest(on_two_devices)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["seeds"] == [0, 1] and summary["process_count"] == 2


@pytest.mark.soak
def test_other_settings_are_refused_by_process_and_name(tmp_path, cache):
    with Group(1, "--num-processes", "2", output=tmp_path / "run", cache=cache) as group:
        who = "--coordinator", group.coordinator, "--num-processes", "2", "--process-id", "1"
        flags = "--output", str(tmp_path / "run"), *who, "--seed", "5"
        group.processes.append(command(*DIGITS, *flags, cache=cache))
        line = "error: process 1: has another seed than 0"
        assert [(code, said.partition(". ")[0]) for code, said in group.ended()] == [(2, line)] * 2
    assert not (tmp_path / "run").exists()


def test_alone_nothing_is_shared_and_every_wish_counts_at_once(tmp_path):
    assert share({"a": 1}) == {"a": 1} and share_arrays(tmp_path) is tmp_path
    refuse_unless_same({"seed": object()})
    check_processes(None, None, None)
    agree = Agreement()
    assert (agree(3), agree(0), agree.now(2)) == (3, 0, 2)
    with StopSignals() as stop:
        pace = Pace(stop, mj.RunOptions(), step=0)
        assert pace() is False and pace.number is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert pace() is True and pace.number == signal.SIGTERM


def test_what_jax_says_of_a_lost_process_is_told_apart():
    with pytest.raises(PeerLost, match="has ended"), as_peer_lost():
        raise RuntimeError("UNKNOWN: Gloo all-reduce failed: Read error: Connection reset by peer")
    with pytest.raises(RuntimeError, match="shapes"), as_peer_lost():
        raise RuntimeError("shapes differ")
    assert PeerLost.exit_code == 8
