"""Files that are not what they are called, parsers that crash, and the way back to disk."""

import gzip
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.numpy
from weights_files import TINY, WRITERS, assert_same, legacy, random_params

from mnistjax.errors import StorageError, WeightsError
from mnistjax.weights import sandbox
from mnistjax.weights.safetensors import SCHEMA, read_safetensors, write_safetensors
from mnistjax.weights.source import load_weights

PARAMS = random_params()


class Canary:
    """Leaves a file behind when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("x.h5", b"", "0 bytes"),
        ("x.h5", b"<!DOCTYPE html><html>", "21 bytes, the first: b'<!DOCTYPE html>"),
        ("x.h5", b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        ("x.h5", b"this file has moved, see " * 5, "not HDF5: 125 bytes"),
        ("x.h5", b"\x89HDF\r\n\x1a\n" + bytes(40), "damaged or cut short.*48 bytes"),
        ("x.safetensors", b"\x89HDF\r\n\x1a\n" + bytes(40), "not safetensors: 48 bytes"),
        ("x.safetensors", (2**40).to_bytes(8, "little") + b"{}", "not safetensors: 10 bytes"),
        ("x.safetensors", (2).to_bytes(8, "little") + b"{]", "damaged or cut short"),
        ("x.npz", b"PK\x03\x04", "zip archive"),
        ("x.keras", b"PK\x03\x04", "damaged or cut short.*not a zip file"),
        ("x.keras", b"\x89HDF\r\n\x1a\n", "not a zip archive"),
        ("x.h5", b"PK\x03\x04", "a zip archive.*call it .keras"),
        ("x.pth", b"PK\x03\x04", "a Python pickle.*Fix: .*safetensors.torch as s; s.save_file"),
        ("x.npy", b"\x93NUMPY", "NumPy array"),
        ("weights", b"anything", "not weights this reads: 8 bytes"),
    ],
)
def test_what_is_not_weights_is_named_by_its_first_bytes(tmp_path, name, data, says):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(WeightsError, match=says) as error:
        load_weights(tmp_path / name, cut="block3")
    assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize("name", ["x.pkl", "x.pt", "x.h5", "x.npz", "x.safetensors"])
def test_no_pickle_is_opened_under_any_name(tmp_path, name):
    canary = tmp_path / "canary"
    payload = pickle.dumps(Canary(str(canary)))
    if name == "x.npz":
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("x.npy", payload)
    else:
        (tmp_path / name).write_bytes(payload)
    with pytest.raises(WeightsError, match="pickle|zip|not safetensors"):
        load_weights(tmp_path / name, cut="block3")
    assert not canary.exists()
    pickle.loads(payload)  # noqa: S301  the payload does work
    assert canary.exists()


def test_missing_files_and_directories(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        load_weights(tmp_path / "x.h5")
    with pytest.raises(WeightsError, match="a directory"):
        load_weights(tmp_path)


def test_a_strange_file_is_read_in_a_child_with_the_same_result(tmp_path):
    path = legacy(tmp_path / "x.h5", PARAMS | {"fc1": {"kernel": np.ones((2, 2), "f4")}})
    params, ignored, layout, *_ = sandbox.parse(path, TINY)
    assert_same(params, PARAMS)
    assert (ignored, layout) == (("fc1",), "legacy")
    with pytest.raises(WeightsError, match="block3_conv1 is missing"):
        sandbox.parse(path, TINY | {"block3_conv1": {"bias": (1,)}})


LIMITED = "import json, sys; from mnistjax.weights import _child; _child.limit(); "
CHILDREN = {
    "hangs": ("import time; time.sleep(60)", "no end after 2 s"),
    "crashes": ("import os; os.kill(os.getpid(), 11)", "ended with -11"),
    "wants memory": (f"{LIMITED} bytearray(2**32)", "ended with 1"),
    "wants disk": (
        f"{LIMITED} open(json.load(sys.stdin)['directory'] + '/answer.json', 'w').truncate(2**40)",
        "ended with (1|-25)",
    ),
    "says nothing": ("", "ended with 0"),
    "babbles": (
        "import json, sys; directory = json.load(sys.stdin)['directory']\n"
        "open(directory + '/answer.json', 'w').write('[')",
        "left no answer",
    ),
}


@pytest.mark.skipif(os.name == "nt", reason="has neither these signals nor these limits")
@pytest.mark.parametrize(("code", "says"), CHILDREN.values(), ids=CHILDREN)
def test_a_child_that_fails_is_one_error(tmp_path, monkeypatch, code, says):
    monkeypatch.setattr(sandbox, "CHILD", ("-c", code))
    monkeypatch.setattr(sandbox, "SECONDS", 2.0)
    monkeypatch.setattr(sandbox.tempfile, "tempdir", str(tmp_path))
    path = legacy(tmp_path / "x.h5", PARAMS)
    with pytest.raises(WeightsError, match=rf"could not be parsed safely: .*{says}"):
        sandbox.parse(path, TINY)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.h5"]


LIMITS = """
import resource as r
from mnistjax.weights._child import limit
hard = r.getrlimit(r.RLIMIT_CORE)[1]
r.setrlimit(r.RLIMIT_CORE, (hard, hard))  # a shell's usual 0 would look like ours
limit()
print([r.getrlimit(k)[0] for k in (r.RLIMIT_AS, r.RLIMIT_CPU, r.RLIMIT_CORE, r.RLIMIT_FSIZE)])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse some of them")
def test_the_child_takes_every_limit():
    done = subprocess.run([sys.executable, "-c", LIMITS], capture_output=True, text=True)
    assert done.stdout.strip() == str([2 * 2**30, 45, 0, 2**28]), done.stderr


HANGS = sorted(Path(__file__).parent.glob("hdf5_hangs/*.h5.gz"))


@pytest.mark.parametrize("packed", HANGS, ids=[path.name for path in HANGS])
def test_files_that_hang_libhdf5_are_given_up(tmp_path, monkeypatch, packed):
    """Found by fuzz_hdf5.py with HDF5 2.0; another version may well refuse them by itself."""
    monkeypatch.setattr(sandbox, "SECONDS", 2.0)
    path = tmp_path / "x.h5"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    with pytest.raises(WeightsError, match=f"^{path}: .*Fix: "):
        sandbox.parse(path, TINY)


def test_a_child_does_not_inherit_the_environment(monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("HDF5_PLUGIN_PATH", "x")
    assert set(sandbox._environment()) <= {
        *("PYTHONPATH", "HDF5_PLUGIN_PRELOAD", "OPENBLAS_NUM_THREADS", "PYTHONUTF8"),
        *("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
    }


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("layout", WRITERS)
def test_damaged_files_give_the_right_arrays_or_one_error(tmp_path, layout):
    path = WRITERS[layout](tmp_path / "x.h5", PARAMS)
    script = str(Path(__file__).parent / "fuzz_hdf5.py")
    command = [sys.executable, script, str(path), "60", "0"]
    outcomes = Counter(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))
    assert set(outcomes) <= {"right", "refused", "died"}, outcomes
    assert outcomes["right"] and outcomes["refused"]


def write(path, params=PARAMS):
    write_safetensors(path, params, source_sha256="ab" * 32, origin="a test")
    return path


def test_what_was_converted_is_read_back(tmp_path):
    reading, metadata = read_safetensors(write(tmp_path / "new" / "x.safetensors"), TINY)
    assert_same(reading.params, PARAMS)
    assert metadata == {
        "schema": SCHEMA,
        "source_sha256": "ab" * 32,
        "origin": "a test",
        "preprocessing": "caffe",
    }
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.safetensors"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = write(tmp_path / "x.safetensors")
    before = path.read_bytes()

    def fails(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(StorageError, match="No space left"):
        write(path, random_params(seed=1))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize(
    ("change", "metadata", "says"),
    [
        ({"block1_conv1/bias": None}, {"schema": SCHEMA}, "block1_conv1/bias is missing"),
        ({"block1_conv1/gamma": "f4"}, {"schema": SCHEMA}, "gamma is not of VGG16"),
        ({"block1_conv1/bias": "f8"}, {"schema": SCHEMA}, "block1_conv1/bias is F64, not F32"),
        ({"block2_conv1/bias": np.nan}, {"schema": SCHEMA}, "block2_conv1/bias .* not finite"),
        ({}, {"schema": "mnistjax-vgg16-2"}, "schema mnistjax-vgg16-2, not"),
        ({}, None, "schema none, not"),
    ],
)
def test_other_safetensors_are_refused(tmp_path, change, metadata, says):
    flat = {f"{layer}/{role}": a for layer, of in PARAMS.items() for role, a in of.items()}
    for name, what in change.items():
        old = flat.pop(name, np.zeros(4, np.float32))
        if isinstance(what, str):
            flat[name] = old.astype(what)
        elif what is not None:
            flat[name] = np.full_like(old, what)
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file(flat, path, metadata)
    with pytest.raises(WeightsError, match=says):
        read_safetensors(path, TINY)


def test_safetensors_cut_short_are_refused(tmp_path):
    data = write(tmp_path / "x.safetensors").read_bytes()
    for length in range(10, len(data), 101):
        (tmp_path / "short.safetensors").write_bytes(data[:length])
        with pytest.raises(WeightsError, match="damaged or cut short|not safetensors"):
            load_weights(tmp_path / "short.safetensors")


def test_a_bomb_is_refused_within_the_limits_of_the_child(tmp_path):
    path = legacy(tmp_path / "x.h5", PARAMS)
    with h5py.File(path, "r+") as file:
        del file["block1_conv1/block1_conv1_b_1:0"]
        file.create_dataset("block1_conv1/block1_conv1_b_1:0", (2**40,), "f4", chunks=(2**20,))
    with pytest.raises(WeightsError, match=r"is \(1099511627776,\), not \(4,\)"):
        sandbox.parse(path, TINY)
