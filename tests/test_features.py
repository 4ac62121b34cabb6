import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from mnistjax import progress
from mnistjax.errors import StorageError, UsageError
from mnistjax.frozen import cache as features_module
from mnistjax.frozen.cache import cached_features, features_key
from mnistjax.rows import cache as rows_module
from mnistjax.rows.cache import Cached, TooLarge, Unfinished

KEY = features_key(weights="w", size=4)
COUNT, BATCH = 23, 4
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 1)).astype(np.uint8)
WEIGHTS = jnp.asarray(np.random.default_rng(1).standard_normal((16, 6)), jnp.float32)


@jax.jit
def jitted(images):
    x = images.astype(jnp.float32).reshape(len(images), -1) @ WEIGHTS
    return x.reshape(len(images), 2, 3)


WANTED = np.concatenate([np.asarray(jitted(IMAGES[i : i + 1])) for i in range(COUNT)])


class Compute:
    """The function, remembering each image it was really given, and failing on request."""

    def __init__(self, fail_at=None):
        self.seen, self.shapes, self.fail_at = [], set(), fail_at

    def __call__(self, images):
        if isinstance(images, np.ndarray):
            if len(self.shapes) and len(self.seen) >= COUNT:
                raise AssertionError("more was computed than there is")
            if self.fail_at is not None and len(self.seen) >= self.fail_at:
                raise RuntimeError("killed")
            self.shapes.add(images.shape)
            rows = {image.tobytes(): row for row, image in enumerate(IMAGES)}
            self.seen += [rows[image.tobytes()] for image in images if image.any()]
        return jitted(images)


@pytest.fixture(autouse=True)
def commit_every_batch(monkeypatch):
    monkeypatch.setattr(rows_module, "COMMIT_SECONDS", 0)


@pytest.fixture
def run(tmp_path):
    def call(compute=jitted, **arguments):
        options = {"key": KEY, "directory": tmp_path, "batch_size": BATCH, "quiet": True}
        return cached_features(compute, IMAGES, **options | arguments)

    return call


def file_of(tmp_path, name="features.npy"):
    return tmp_path / KEY / name


def check(result, *, computed):
    assert isinstance(result, Cached)
    np.testing.assert_allclose(result.rows, WANTED, rtol=1e-5, atol=1e-3)
    assert result.computed == computed
    assert result.hit == (computed == 0)
    return result


def test_a_hit_is_what_was_computed(run):
    compute = Compute()
    first = check(run(compute), computed=COUNT)
    assert compute.seen == list(range(COUNT))
    assert compute.shapes == {(BATCH, 4, 4, 1)}  # the ragged last batch too: one compilation
    second = check(run(Compute(fail_at=0)), computed=0)
    assert first.rows.tobytes() == second.rows.tobytes()
    assert not first.damaged and not second.damaged
    assert first.images_per_second > 0 and second.images_per_second == 0


def test_the_features_are_a_read_only_map(run):
    features = run().rows
    assert isinstance(features, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        features[0] = 0


@pytest.mark.parametrize("seed", range(3))
def test_stopped_anywhere_and_continued_equals_uninterrupted(run, tmp_path, seed, monkeypatch):
    monkeypatch.setattr(rows_module, "COMMIT_SECONDS", 1000)  # leaving is what commits
    random = np.random.default_rng(seed)
    whole = run(directory=tmp_path / "whole").rows.tobytes()
    seen = []
    while True:
        polls = iter(range(100))
        stop_after, fail = int(random.integers(0, 3)), bool(random.integers(2))
        compute = Compute(fail_at=BATCH * (stop_after + 1) if fail else None)
        before = list(seen)
        try:
            result = run(
                compute,
                should_stop=lambda p=polls, n=stop_after, f=fail: not f and next(p) >= n,
            )
        except RuntimeError:
            result = None
        seen += compute.seen
        if isinstance(result, Unfinished):
            assert result == (len(seen), COUNT)
        if isinstance(result, Cached):
            break
    assert result.computed == COUNT - len(before)
    assert seen == list(range(COUNT))
    assert result.rows.tobytes() == whole


CHILD = """
import sys, time
sys.path.insert(0, {tests!r})
import test_features as t
from pathlib import Path
class Slow(t.Compute):
    def __call__(self, images):
        if isinstance(images, t.np.ndarray):
            print(len(self.seen), flush=True)
            time.sleep(0.02)
        return super().__call__(images)
t.rows_module.COMMIT_SECONDS = 0
t.cached_features(Slow(), t.IMAGES, key=t.KEY, directory=Path({directory!r}), batch_size=1)
"""


def test_kill_9_costs_no_finished_row(run, tmp_path):
    whole = run(directory=tmp_path / "whole", batch_size=1).rows.tobytes()
    code = CHILD.format(tests=str(Path(__file__).parent), directory=str(tmp_path))
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == "9":
            os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    compute = Compute()
    result = check(run(compute, batch_size=1), computed=COUNT - 9)
    assert compute.seen == list(range(9, COUNT))
    assert result.rows.tobytes() == whole and not result.damaged


@pytest.mark.parametrize("row", [0, 11, COUNT - 1])
def test_a_flipped_bit_is_noticed(run, tmp_path, row):
    whole = run().rows.tobytes()
    path = file_of(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) - (COUNT - row) * 24] ^= 1
    path.write_bytes(data)
    result = check(run(), computed=COUNT - row // BATCH * BATCH)
    assert result.damaged
    assert result.rows.tobytes() == whole
    check(run(Compute(fail_at=0)), computed=0)


def cut_file(path):
    path.write_bytes(path.read_bytes()[:-50])


def other_order(path):
    path.write_bytes(
        path.read_bytes().replace(b"'fortran_order': False", b"'fortran_order': True ")
    )


def no_header(path):
    path.write_bytes(b"x" * path.stat().st_size)


@pytest.mark.parametrize("damage", [cut_file, other_order, no_header, Path.unlink])
def test_a_damaged_file_is_computed_again(run, tmp_path, damage):
    run()
    damage(file_of(tmp_path))
    assert check(run(), computed=COUNT).damaged
    check(run(), computed=0)


def edit(**changes):
    def change(text):
        return json.dumps(json.loads(text) | changes)

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "[" * 100_000,
        lambda text: "\udcff",
        edit(blocks=[[COUNT, "0" * 64]]),
        edit(blocks=[[0, "0" * 64]]),
        edit(blocks=[[COUNT + 1, "0" * 64]]),
        edit(blocks=[[True]]),
        edit(blocks=None),
        edit(shape=[COUNT, 3, 2]),
        edit(version=0),
    ],
)
def test_a_damaged_record_means_starting_over(run, tmp_path, change):
    run()
    path = file_of(tmp_path, "record.json")
    path.write_text(change(path.read_text()), errors="surrogateescape")
    assert check(run(), computed=COUNT).damaged
    check(run(), computed=0)


@pytest.mark.parametrize("end", [-1, COUNT + 1])
def test_a_record_of_impossible_rows_is_damaged_even_with_their_digest(run, tmp_path, end):
    rows = run().rows
    digest = hashlib.sha256(rows[:end]).hexdigest()
    path = file_of(tmp_path, "record.json")
    path.write_text(edit(blocks=[[end, digest]])(path.read_text()))
    assert check(run(), computed=COUNT).damaged


def test_a_map_in_use_survives_the_file_being_made_anew(run, tmp_path):
    features, mapped = run().rows, file_of(tmp_path).stat().st_ino
    file_of(tmp_path, "record.json").unlink()
    check(run(), computed=COUNT)
    assert file_of(tmp_path).stat().st_ino != mapped
    np.testing.assert_allclose(features, WANTED, rtol=1e-5, atol=1e-3)


def test_more_than_the_limit_is_not_begun(run, tmp_path):
    needed = WANTED.nbytes
    assert run(Compute(fail_at=0), limit_bytes=needed - 1) == TooLarge(needed, needed - 1)
    assert not list(tmp_path.iterdir())
    check(run(limit_bytes=needed), computed=COUNT)


def test_too_little_room_is_said_before_the_work(run, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1000, 501, 499))
    with pytest.raises(StorageError, match="need 552 bytes more, 499 are free.*MNISTJAX_CACHE"):
        run(Compute(fail_at=0))
    monkeypatch.undo()
    polls = iter([False, False, True])
    assert run(should_stop=lambda: next(polls)) == Unfinished(12, COUNT)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1000, 501, 499))
    check(run(), computed=COUNT - 12)  # what is there already needs no room


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to be a full disk")
def test_a_disk_that_fills_up_is_a_storage_error(run, tmp_path, monkeypatch):
    really = Path.open

    def full(path, *arguments, **named):
        writes_rows = path.name == "features.npy" and arguments == ("r+b",)
        return really(Path("/dev/full") if writes_rows else path, *arguments, **named)

    polls = iter([False, False, True])
    assert run(should_stop=lambda: next(polls)) == Unfinished(12, COUNT)
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StorageError, match="No space left.*Fix: check that the disk"):
        run()
    monkeypatch.undo()
    check(run(), computed=COUNT - 12)


def test_a_directory_that_cannot_be_is_a_storage_error(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Not a directory|exists"):
        run(directory=tmp_path / "file")


def test_the_second_process_waits_and_finds_the_work_done(run, tmp_path):
    inside, release = threading.Event(), threading.Event()

    class Held(Compute):
        def __call__(self, images):
            if isinstance(images, np.ndarray):
                inside.set()
                release.wait(10)
            return super().__call__(images)

    results = []
    first = threading.Thread(target=lambda: results.append(run(Held())))
    first.start()
    inside.wait(10)
    assert run(Compute(fail_at=0), should_stop=lambda: True) == Unfinished(0, COUNT)
    second = threading.Thread(target=lambda: results.append(run(Compute(fail_at=0))))
    second.start()
    time.sleep(0.1)
    assert not results
    release.set()
    first.join()
    second.join()
    check(results[0], computed=COUNT)
    check(results[1], computed=0)


def test_keys_and_dtypes_are_checked(run):
    with pytest.raises(UsageError, match="no SHA-256"):
        run(key="../elsewhere")
    with pytest.raises(UsageError, match="compute gives bfloat16"):
        run(lambda images: jitted(images).astype(jnp.bfloat16))
    assert features_key(a=1, b=2) == features_key(b=2, a=1) != features_key(a=1, b=3)


@pytest.mark.parametrize("quiet", [True, False])
@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_shown(run, quiet, terminal, monkeypatch):
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=80)
    monkeypatch.setattr(features_module, "console", console)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1)
    run(quiet=quiet)
    if quiet:
        assert text.getvalue() == ""
    elif terminal:
        assert "ETA" in text.getvalue() and "23/23" in text.getvalue()
    else:
        assert text.getvalue().splitlines()[-1].startswith("  features  23/23  ")
        assert "\x1b" not in text.getvalue()
