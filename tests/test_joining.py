"""Joining other processes, and what is shared then: who may, rows computed and read by all."""

import subprocess
import sys

import jax
import pytest
from finished_runs import scratch_run
from several_processes import DEADLINE, ROOT, free_port, python, without_gloo

import mnistjax as mj
from experiments.scratch import ScratchConfig, main
from mnistjax import cli
from mnistjax.errors import UsageError

WHERE = "127.0.0.1:9876"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


REFUSED = [
    (("--coordinator", WHERE), f"--coordinator {WHERE}: needs --num-processes"),
    (("--num-processes", "2"), "--num-processes 2: says nothing alone"),
    (("--process-id", "1"), "--process-id 1: says nothing alone"),
    (("--coordinator", "host", "--num-processes", "2", "--process-id", "0"), "is no HOST:PORT"),
    (("--coordinator", WHERE, "--num-processes", "2", "--process-id", "2"), "must lie in 0..1"),
    (
        ("--coordinator", WHERE, "--num-processes", "2", "--process-id", "0", "--distributed"),
        "--distributed with --coordinator",
    ),
]


@pytest.mark.parametrize(("flags", "says"), REFUSED, ids=[row[1] for row in REFUSED])
def test_flags_that_do_not_say_who_this_is(flags, says, capsys):
    assert cli.run(ScratchConfig, main, ["--dataset", "digits", *flags]) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1


JOINED = """
import sys, mnistjax as mj
where, port = sys.argv[1], int(sys.argv[1].rpartition(":")[2])
mj.distributed(where, num_processes=1, process_id=0)
heard = [line.split()[1].rpartition(":") for line in open("/proc/net/tcp6")]
print({place for place, _, at in heard if at == f"{port:04X}"})
mj.distributed(where, num_processes=1, process_id=0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and 127.0.0.2 is Linux's")
def test_the_first_listens_at_its_own_address_alone_and_joins_once(cache):
    where = f"127.0.0.2:{free_port()}"
    out, err = python("-c", JOINED, where, cache=cache).communicate(timeout=60)
    assert out == "{'0000000000000000FFFF00000200007F'}\n"  # 127.0.0.2, and not all of them
    assert "this process has joined already. Fix: call it once" in err.splitlines()[-1]


JOIN = """
import sys, mnistjax as mj
count, number = map(int, sys.argv[2:])
mj.distributed(sys.argv[1], num_processes=count, process_id=number, timeout=3)
"""


def test_not_all_or_a_number_twice_end_all_who_came(cache):
    came = []
    for numbers in [0], [1], [0, 1, 1]:
        where, count = f"127.0.0.1:{free_port()}", str(max(2, len(numbers)))
        for number in map(str, numbers):
            came.append((where, python("-c", JOIN, where, count, number, cache=cache)))
    for where, process in came:
        last = process.communicate(timeout=60)[1].splitlines()[-1]
        assert process.returncode == 8 and last.startswith(f"error: coordinator {where}: ")
        assert "start each number once, with the same coordinator" in last


SHARES = """
import sys, numpy as np, mnistjax as mj
mj.distributed(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
seen = []

def double(rows):
    seen.append(len(rows))
    return 2 * rows

for count in 7, 2, 1, 0:
    rows = np.arange(count * 3).reshape(count, 3) + 2**40 + 1
    got = mj.over_processes(double, rows)
    assert got.dtype == rows.dtype and np.array_equal(got, 2 * rows), count
print(seen)
if len(sys.argv) > 3:
    classifier = mj.load(sys.argv[3])
    images = mj.load_dataset("digits").test.images[:77]
    wanted = classifier.logits(images)
    assert np.array_equal(mj.over_processes(classifier.logits, images), wanted)
    print("answered")
"""


def said_by_two(code, *more, cache):
    """What each of two processes that run `code` wrote."""
    where = f"127.0.0.1:{free_port()}"
    both = [python("-c", code, where, number, *more, cache=cache) for number in "01"]
    return [without_gloo(process.communicate(timeout=DEADLINE)[0]) for process in both]


def test_each_process_computes_its_share_of_rows_and_all_have_all(cache):
    assert said_by_two(SHARES, cache=cache) == ["[4, 1, 1, 0]"] * 2


@pytest.mark.soak
def test_answers_over_processes_are_those_of_one(cache):
    said = said_by_two(SHARES, str(scratch_run().directory), cache=cache)
    assert ["answered" in out for out in said] == [True] * 2


READS = """
import sys, numpy as np, mnistjax as mj
from mnistjax.data.lazy_images import Rows
from mnistjax.data.prefetch import batches_from
mj.distributed(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
read = []

class Seen(Rows):
    def __getitem__(self, index):
        read.extend(np.asarray(index).tolist())
        return super().__getitem__(index)

images = Seen(np.zeros((10, 1, 1, 1), np.uint8), np.arange(10))
split = mj.Split(images, np.arange(10, dtype=np.int32))
order = np.arange(12, dtype=np.int32).reshape(3, 4)  # 10 and 11 fill the last batch up
for batch in batches_from(split)(order):
    assert batch.images.shape == (4, 1, 1, 1)
print(read)
"""


def test_each_process_reads_only_its_rows_of_every_batch(cache):
    assert said_by_two(READS, cache=cache) == ["[0, 1, 4, 5, 8, 9]", "[2, 3, 6, 7]"]


def test_joining_when_jax_has_its_devices_is_too_late():
    assert jax.devices()
    with pytest.raises(UsageError, match=r"its devices already. Fix: call it before the first"):
        mj.distributed(WHERE, num_processes=1, process_id=0)


def test_a_port_that_is_taken_is_refused_before_jax_listens(monkeypatch):
    import socket

    monkeypatch.setattr("mnistjax.joining._refuse_late", lambda: None)  # devices are there here
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UsageError, match="cannot be listened at.*another port"):
            mj.distributed(where, num_processes=2, process_id=0)


def test_flags_are_checked_without_jax():
    code = "import sys, mnistjax.processes, mnistjax.cli_processes; print('jax' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert out.stdout == "False\n"
