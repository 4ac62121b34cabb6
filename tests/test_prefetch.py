"""The two roads of batches: from the device, and gathered ahead by the host; the same bits."""

import json
import os
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from stateful_models import CLASSES, nnx_model, split

import mnistjax as mj
from mnistjax.data.batches import epoch_batches, epoch_order, on_device
from mnistjax.data.dataset import Split
from mnistjax.data.lazy_images import LazyImages, Rows
from mnistjax.data.memory import HOST, LEAST, limit_bytes
from mnistjax.data.prefetch import AHEAD, ahead, batches_from, placement
from mnistjax.files import params_sha256

TX = optax.adam(3e-2)


@pytest.fixture
def on_host(monkeypatch):
    """Nothing fits the device."""
    monkeypatch.setattr("mnistjax.data.memory.limit_bytes", lambda: 0)


def threads():
    return [thread.name for thread in threading.enumerate() if "mnistjax" in thread.name]


def mapped(whole: Split, path: Path) -> Split:
    np.save(path, whole.images)
    return Split(np.load(path, mmap_mode="r"), whole.labels)


def linear(params, images):
    return images.reshape(len(images), -1) @ params["w"]


def model_of(kind: str) -> tuple[Any, Any, Any]:
    return nnx_model() if kind == "with state" else (linear, {"w": jnp.zeros((16, CLASSES))}, ())


def fit(kind, train, *, state: Any = None, so_far: Any = None, should_stop=lambda: False):
    """Two epochs of 53 examples in batches of 16: the last is padded, or smaller."""
    apply_fn, params, model_state = model_of(kind)
    return mj.fit(
        state or mj.init_state(jax.tree.map(jnp.copy, params), TX, model_state),
        train_step=mj.make_train_step(apply_fn=apply_fn, tx=TX, seed=5),
        eval_step=mj.make_eval_step(apply_fn=apply_fn),
        train=train,
        validation=split(20, seed=3),
        epochs=2,
        batch_size=16,
        seed=5,
        should_stop=should_stop,
        **({"so_far": so_far} if so_far else {}),
    )


def outcome(events) -> tuple[str, list[Any]]:
    """The digest of the last state, and every figure on the way."""
    *_, last = seen = [*events]
    figures = [(event.step, event.metrics) for event in seen if isinstance(event, mj.StepEnd)]
    return params_sha256((last.state.params, last.state.model_state)), [figures, last.validation]


@pytest.mark.parametrize("kind", ["without state", "with state"])
def test_both_roads_train_to_the_same_bits_and_go_on_from_a_stop(kind, tmp_path, monkeypatch):
    whole = split(53)
    wanted = outcome(fit(kind, whole))
    monkeypatch.setattr("mnistjax.data.memory.limit_bytes", lambda: 0)
    ours = mapped(whole, tmp_path / "images.npy")
    assert outcome(fit(kind, ours)) == wanted
    # Asked after each of four steps, of the validation's one batch, and after the epoch.
    stops = iter([False] * 7 + [True])
    *_, stopped = fit(kind, ours, should_stop=lambda: next(stops))
    assert isinstance(stopped, mj.Interrupted) and stopped.step == 6 and not threads()
    so_far = stopped.train, stopped.train_seconds
    resumed = outcome(fit(kind, ours, state=stopped.state, so_far=so_far))
    assert resumed[0] == wanted[0] and resumed[1][1] == wanted[1][1]
    assert not threads()


def test_evaluation_takes_the_same_road(tmp_path, monkeypatch):
    whole = split(53)
    step = mj.make_eval_step(apply_fn=linear)
    params = {"w": jax.random.normal(jax.random.key(0), (16, CLASSES))}
    wanted = mj.evaluate(step, params, whole, batch_size=16)
    monkeypatch.setattr("mnistjax.data.memory.limit_bytes", lambda: 0)
    monkeypatch.setattr("mnistjax.data.prefetch.on_device", None)
    metrics, logits = mj.evaluate(step, params, mapped(whole, tmp_path / "x.npy"), batch_size=16)
    assert metrics == wanted[0] and np.array_equal(logits, wanted[1])
    assert not threads()


@pytest.mark.usefixtures("without_pictures")
def test_a_run_says_its_road_and_ends_in_the_same_parameters(tmp_path, monkeypatch, capsys):
    def train(name, train):
        data = mj.Dataset("x", train, split(20, seed=2), tuple("abc"), origin="made here")
        quick: Any = {"epochs": 2, "batch_size": 16, "tx": TX}
        run = mj.train(nnx_model(), data, tmp_path / name, **quick)
        keys = "params_sha256", "model_state_sha256", "dataset_sha256", "test_loss"
        return [run.summary[key] for key in keys], capsys.readouterr().out

    wanted, said = train("device", split(70))
    assert "images stay on the device" in said
    monkeypatch.setattr("mnistjax.data.memory.limit_bytes", lambda: 0)
    got, said = train("host", mapped(split(70), tmp_path / "images.npy"))
    assert "images come from the disk, 2 batches ahead" in said
    assert got == wanted and not threads()


SPLITS = {
    "pixels": (np.uint8, np.arange(11, dtype=np.int32)),
    "maps": (np.float32, np.arange(11, dtype=np.int64)),
    "wide maps": (np.float64, np.arange(11) % 2 == 0),
    "shares": (np.uint8, np.eye(11, dtype=np.float32)),
}


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize(("dtype", "labels"), SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("wide", [False, True])
def test_batches_are_equal_bit_for_bit(dtype, labels, padded, wide, on_host):
    images = np.random.default_rng(0).integers(1, 256, (11, 2, 2, 1)).astype(dtype)
    with jax.enable_x64(wide):
        order = epoch_order(1, 2, count=11, batch_size=4)
        wanted = [*epoch_batches(*on_device(Split(images, labels)), order, first=1, padded=padded)]
        got = [*batches_from(Split(images, labels))(order, first=1, padded=padded)]
    assert len(got) == len(wanted) == 2
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert isinstance(ours, jax.Array) and ours.dtype == theirs.dtype
        assert ours.weak_type == theirs.weak_type and ours.committed == theirs.committed
        assert np.array_equal(ours, theirs)


def test_two_are_made_before_they_are_asked_for_and_no_more():
    made, third = [], threading.Event()

    def make(number):
        made.append(number)
        if number == AHEAD:
            third.set()
        return number

    with closing(ahead(make, range(10))) as results:
        assert next(results) == 0
        assert third.wait(60) and made == [0, 1, 2]
        assert [*results] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert not threads()


def test_an_error_of_the_thread_is_the_callers():
    def make(number):
        return 1 // (3 - number)

    results = ahead(make, range(10))
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert not threads()


class Failing(LazyImages):
    """A disk that fails at the sixth batch."""

    shape, dtype, origin = (53, 4, 4, 1), np.dtype(np.uint8), "nowhere"
    reads = 0

    def __getitem__(self, index):
        self.reads += 1
        if self.reads == 6:
            raise OSError("the disk is gone")
        return np.zeros((len(index), 4, 4, 1), np.uint8)


def test_an_error_while_training_is_the_callers(on_host):
    broken: Any = Failing()
    seen = []
    with pytest.raises(OSError, match="the disk is gone"):
        for event in fit("without state", Split(broken, split(53).labels)):
            seen.append(event)
    assert 4 <= seen[-1].step <= 5 and not threads()


@pytest.mark.parametrize("leave", ["close", "forget", "interrupt"])
def test_leaving_training_early_ends_the_thread(leave, tmp_path, on_host):
    events: Any = fit("without state", mapped(split(53), tmp_path / "images.npy"))
    assert next(events).step == 1
    assert threads()
    if leave == "close":
        events.close()
    elif leave == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            events.throw(KeyboardInterrupt())
    else:
        del events
    assert not threads()


def test_what_waits_is_dropped_when_left_early():
    entered, go, made = threading.Event(), threading.Event(), []

    def make(number):
        made.append(number)
        if number == 1:
            entered.set()
            go.wait(60)
        return number

    results = ahead(make, range(10))
    assert next(results) == 0 and entered.wait(60)
    closer = threading.Timer(0.2, go.set)  # only so that a join is seen to wait; nothing is timed
    closer.start()
    results.close()
    assert made == [0, 1] and not threads()
    closer.join()


def test_what_is_moved_there_is_moved_on_purpose(on_host):
    whole = split(53)
    order = epoch_order(0, 0, count=53, batch_size=16)
    before = jax.config.jax_transfer_guard  # type: ignore[attr-defined]
    jax.config.update("jax_transfer_guard", "disallow_explicit")  # of every thread
    try:
        with jax.transfer_guard("allow"):  # as `fit` has it, for its own thread
            assert len([*batches_from(whole)(order)]) == 4
    finally:
        jax.config.update("jax_transfer_guard", before)


@pytest.mark.cpu
def test_small_images_stay_and_large_ones_are_read_from_where_they_are(tmp_path, monkeypatch):
    whole = split(20)
    assert limit_bytes() == HOST and placement(whole) == "images stay on the device"
    disk = mapped(whole, tmp_path / "images.npy")
    limit = whole.images.nbytes // 2
    monkeypatch.setattr("mnistjax.data.memory.limit_bytes", lambda: limit)
    assert placement(whole) == "images come from the host's memory, 2 batches ahead"
    assert placement(disk) == "images come from the disk, 2 batches ahead"
    there: Any = jnp.asarray(whole.images)
    assert placement(Split(there, whole.labels)) == "images stay on the device"
    kept, held = mj.hold_out(disk, fraction=0.25, seed=0)
    assert isinstance(kept.images, Rows) and type(held.images) is np.ndarray
    assert placement(kept) == placement(disk) != placement(held)


def test_a_device_that_tells_its_memory_is_asked(monkeypatch):
    class Device:
        def memory_stats(self):
            return {"bytes_limit": 80 * 2**30}

    monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
    assert limit_bytes() == 20 * 2**30
    monkeypatch.setattr(Device, "memory_stats", lambda self: {"bytes_limit": 2**30})
    assert limit_bytes() == LEAST
    monkeypatch.setattr(Device, "memory_stats", lambda self: None)
    assert limit_bytes() == HOST


MEASURE = """
import json, sys, threading
import jax, jax.numpy as jnp, numpy as np, optax
import mnistjax as mj
import mnistjax.data.memory as memory

memory.limit_bytes = lambda: 2**20

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

images = np.load(sys.argv[1], mmap_mode="r")
data = mj.Split(images, (np.arange(len(images)) % 3).astype(np.int32))

def linear(params, images):
    return images[:, ::8, ::8].reshape(len(images), -1) @ params["w"]

tx, peak = optax.sgd(0.1), 0
train, validation = mj.hold_out(data, fraction=0.4, seed=0)
events = mj.fit(
    mj.init_state({"w": jnp.zeros((64, 3))}, tx),
    train_step=mj.make_train_step(apply_fn=linear, tx=tx),
    eval_step=mj.make_eval_step(apply_fn=linear),
    train=train, validation=validation, epochs=1, batch_size=500, seed=0,
)
for event in events:
    peak = max(peak, anonymous())
print(json.dumps({"kib": max(peak, anonymous()), "steps": event.step}))
"""


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc tells RssAnon")
def test_memory_stays_well_below_the_size_of_the_file(tmp_path):
    def measure(count):
        path = tmp_path / f"{count}.npy"
        shape = (count, 64, 64, 1)
        np.lib.format.open_memmap(path, "w+", np.uint8, shape).flush()  # a hole: no disk is used
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(path)],
            capture_output=True,
            text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    tiny, large = measure(2_000), measure(50_000)
    assert large["steps"] == 60
    assert large["kib"] - tiny["kib"] < 100 * 1024, "of 200 MB in the file"
