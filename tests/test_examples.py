"""Every program of examples/ as its reader would run it, in an empty directory."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SAYS = {
    "own_data": r"[89]\d\.\d% right; look at runs/own-data/report\.html",
    "stop_and_resume": r"^the same bits [0-9a-f]{12}$",
    "freeze_a_part": r"[89]\d\.\d% right; kept .* {'bias': True, 'kernel': True}\n[\d,]+ of [\d,]+",
    "own_loss": r"rightly: 9\d\.\d%\nnumbers guessed, off by [01]\.\d\d",
    "batch_norm": r"9\d\.\d% right\nrunning mean of channel 0: -?\d",
}


WITHOUT_REPORT = """
import runpy, sys
from types import SimpleNamespace
page = SimpleNamespace(write_report=lambda directory, **_: directory)
sys.modules["mnistjax.report.page"] = page  # it draws for seconds
runpy.run_path({path!r}, run_name="__main__")
"""


def test_each_is_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == SAYS.keys() | {"many_devices"}


@pytest.mark.parametrize(("name", "says"), SAYS.items(), ids=SAYS)
def test_it_says_what_it_should(
    name, says, tmp_path, monkeypatch, capsys, without_pictures, optimised
):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert re.search(says, out, re.MULTILINE), out


def test_many_devices_are_chosen_before_jax_has_any(tmp_path, own_cache):
    path = str(EXAMPLES / "many_devices.py")
    command = [sys.executable, "-c", WITHOUT_REPORT.format(path=path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "right, on 4 devices\n`batch_size` 50: does not divide by 4" in done.stdout
