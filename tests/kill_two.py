"""Kill one of two processes that train together, resume both, and again: `kill_two.py KILLS SEED`.

The first, which saves, dies just before or after one of the calls that make or remove a file, half
of them in the middle of a save; every fourth time it is the second that is killed, while the first
saves. Prints, as JSON, what test_kills.py asserts.
"""

import json
import random
import sys
import tempfile
import time
from pathlib import Path

from kill_loop import CALLS_OF_A_SAVE, UNFINISHED, newest, plant, rows, train
from several_processes import DEADLINE, free_port, python

import mnistjax as mj


def start(number: int, where: str, run: Path, *, epochs: int, planted: str = "", devices: int = 1):
    """Process `number` of two at `where`; alone, of two devices, if that is ""."""
    arguments = [str(number), where, str(run), str(epochs), planted]
    return python(__file__, *arguments, cache=run.parent, devices=devices)


def child(number: str, where: str, run: str, epochs: str, planted: str) -> None:
    """What `start` started."""
    if where:
        mj.distributed(where, num_processes=2, process_id=int(number))
    if planted:
        call, _, after = planted.partition(" ")
        plant(int(call), after=bool(after))
    digest = train(Path(run), epochs=int(epochs))
    if number == "0":
        (Path(run) / "digest").write_text(digest)


def saving(run: Path) -> bool:
    return any((run / "checkpoints").glob(f"*{UNFINISHED}*"))


def both(run: Path, *, epochs: int, planted: str, kill_second: bool) -> list[int]:
    """Train by two processes, until one is killed or both end; their exit codes."""
    where = f"127.0.0.1:{free_port()}"
    how = {"epochs": epochs, "planted": planted}
    processes = [start(0, where, run, **how), start(1, where, run, epochs=epochs)]
    before = newest(run)
    while kill_second and processes[0].poll() is None:
        if newest(run) > before + 2 and saving(run):
            processes[1].kill()
            break
        time.sleep(0.0005)
    said = [process.communicate(timeout=DEADLINE)[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert set(codes) <= {0, 8, -9}, (codes, said)
    return codes


def main(kills: int, seed: int) -> dict[str, int | bool]:
    epochs, draw = 8 * kills, random.Random(seed)  # more than so many kills let pass
    seen = {"kills": 0, "while_saving": 0, "of_the_second": 0}
    with tempfile.TemporaryDirectory() as place:
        whole, killed = Path(place) / "whole", Path(place) / "killed"
        alone = start(0, "", whole, epochs=epochs, devices=2)
        assert alone.communicate(timeout=DEADLINE) and alone.returncode == 0
        codes = [-9]
        while codes != [0, 0]:
            more, second = seen["kills"] < kills, draw.random() < 0.25
            planted = f"{draw.randint(1, 3 * CALLS_OF_A_SAVE)}{draw.choice(['', ' after'])}"
            saved = newest(killed)
            codes = both(
                killed,
                epochs=epochs,
                planted=planted if more and not second else "",
                kill_second=more and second,
            )
            assert newest(killed) >= saved, "a saved checkpoint is gone"
            assert more or codes == [0, 0]
            seen["kills"] += -9 in codes
            seen["of_the_second"] += codes[1] == -9
            seen["while_saving"] += saving(killed)
        same_bits = (whole / "digest").read_text() == (killed / "digest").read_text()
        return seen | {"same_bits": same_bits, "same_rows": rows(whole) == rows(killed)}


if __name__ == "__main__":
    if len(sys.argv) > 3:
        child(*sys.argv[1:])
    else:
        print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]))))
