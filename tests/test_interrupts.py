import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.soak
@pytest.mark.parametrize("program", ["scratch", "finetune"])
def test_a_hundred_interrupts_change_no_bit(program):
    script = str(ROOT / "tests" / "interrupt_loop.py")
    done = subprocess.run(
        [sys.executable, script, program, "100", "0"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found["interrupts"] == 100 and found["runs"] > 0 and found["saved"] > 10
