"""Interrupt a program at random moments, resume it, and again: `interrupt_loop.py NAME N SEED`.

NAME is scratch or finetune, a moment lies 0 to 20 s after its start. Prints as JSON what
test_interrupts.py asserts: how many interrupts, in what they ended, and whether every run that went
through them has the bits of one that did not.
"""

import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
MOMENTS = 0.0, 20.0
FLAGS = {
    "scratch": ["--dataset", "digits", "--epochs", "120", "--seed", "1"],
    "finetune": ["--dataset", "digits", "--weights", "random", "--epochs", "60", "--seed", "1"],
}


def start(program: str, run: Path) -> subprocess.Popen[str]:
    began = (run / "config.json").is_file()
    flags = ["--resume"] if began else FLAGS[program]  # what is not given is as it was
    return subprocess.Popen(
        [sys.executable, "-m", f"experiments.{program}", "--output", str(run), "--quiet", *flags],
        cwd=ROOT,
        env=os.environ | {"MNISTJAX_CACHE": str(run.parent / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _python_itself(returncode: int, err: str) -> bool:
    """Whether Python was interrupted before it had run a line of ours: nobody can answer then."""
    return returncode == 1 and "KeyboardInterrupt" in err and str(ROOT) not in err


def result(run: Path) -> str:
    return json.loads((run / "summary.json").read_text())["params_sha256"]


def main(program: str, interrupts: int, seed: int) -> None:
    draw, seen, runs = random.Random(seed), collections.Counter[str](), 0
    with tempfile.TemporaryDirectory() as place:
        whole, run = Path(place) / "whole", Path(place) / "run"
        process = start(program, whole)
        _, err = process.communicate()
        assert process.returncode == 0, err
        shutil.rmtree(Path(place) / "cache", ignore_errors=True)
        while seen.total() < interrupts:
            process = start(program, run)
            time.sleep(draw.uniform(*MOMENTS))
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=600)
            if process.returncode == 0:  # it had ended, or was about to
                assert result(run) == result(whole), f"other bits after {seen}"
                shutil.rmtree(run)
                runs += 1
                continue
            began = (run / "config.json").is_file()
            if process.returncode == -signal.SIGINT or _python_itself(process.returncode, err):
                seen["before the program"] += 1
                assert not began
                continue
            assert process.returncode == 130, f"{process.returncode}: {err}"
            assert err.count("\n") == 1 and "interrupted" in err, err
            where = "saved" if "is saved" in err else "before it trained"
            seen[where] += 1
        if (run / "config.json").is_file():
            process = start(program, run)
            assert process.wait() == 0
            assert result(run) == result(whole), f"other bits after {seen}"
            runs += 1
    print(json.dumps({"interrupts": seen.total(), "runs": runs} | seen))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
