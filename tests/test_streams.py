"""A terminal that goes away, a disk that is full, a home that may not be written: it trains on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TALKS = """
import sys
from rich.console import Console
from mnistjax import cli

def main(config):
    for n in range(4000):
        Console().print(f"{n} é ·", highlight=False)
    print("the end", file=sys.stderr)
    return 6

sys.exit(cli.run(cli.Config, main, []))
"""


def shell(command, **environment):
    environment = os.environ | {"PYTHON": sys.executable} | environment
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to be a full disk")
@pytest.mark.parametrize(
    ("command", "environment", "out", "err"),
    [
        ("| head -1", {}, "0 é ·\n", "the end\n"),
        ("> /dev/full", {}, "", "the end\n"),
        (">&-", {}, "", "the end\n"),
        ("2> /dev/full | tail -1", {}, "3999 é ·\n", ""),
        ("| tail -1", {"PYTHONIOENCODING": "ascii"}, "3999 e -\n", "the end\n"),
        ("| tail -1", {"LC_ALL": "C"}, "3999 é ·\n", "the end\n"),
    ],
)
def test_what_cannot_be_said_is_dropped_and_the_exit_code_stays(command, environment, out, err):
    code = f'"$PYTHON" -c "$TALKS" {command}'
    assert shell(code, TALKS=TALKS, **environment) == (6, out, err)


@pytest.mark.soak
def test_a_run_with_nowhere_to_write_but_its_output(tmp_path):
    (tmp_path / "file").touch()
    nowhere = str(tmp_path / "file" / "home")
    command = '"$PYTHON" -m experiments.scratch --dataset digits --train-size 100 --batch-size 50'
    code, out, err = shell(
        f"{command} --epochs 1 --output {tmp_path}/run > /dev/full",
        **{"HOME": nowhere, "MNISTJAX_CACHE": nowhere, "LC_ALL": "C", "MPLCONFIGDIR": nowhere},
    )
    assert (code, out) == (0, ""), err
    assert "Traceback" not in err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["test_examples"] == 360


def test_a_device_that_is_not_there_is_a_usage_error(tmp_path):
    command = '"$PYTHON" -m experiments.scratch --dataset digits'
    code, out, err = shell(f"{command} --output {tmp_path}/run", JAX_PLATFORMS="foo")
    assert (code, out, err.count("\n")) == (2, "", 1), err
    found = "gpu" if "cuda" in os.environ["JAX_PLATFORMS"] else "cpu"
    assert err.startswith(f"error: JAX_PLATFORMS=foo: there is no such device, only {found} (")
    assert not (tmp_path / "run").exists()
