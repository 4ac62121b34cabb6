"""`--weights`: what is taken from where, what is said about it, and the command line."""

import hashlib
import os
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from weights_files import assert_same, legacy, random_params

from mnistjax import cli
from mnistjax.errors import UsageError, WeightsError
from mnistjax.models.vgg16_table import table
from mnistjax.weights import official, sandbox
from mnistjax.weights.__main__ import WeightsConfig, main
from mnistjax.weights.source import load_weights

ROOT = Path(__file__).parent.parent
PARAMS = random_params(table("block3"))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A file on a server that passes for the one Keras publishes; no Keras cache."""
    directory = tmp_path / "server"
    directory.mkdir()
    path = legacy(directory / official.NAME, PARAMS)
    monkeypatch.setattr(official, "MD5", hashlib.md5(path.read_bytes()).hexdigest())
    monkeypatch.setattr(official, "SIZE", path.stat().st_size)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    handler = partial(Quiet, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setattr(
            official, "URL", f"http://127.0.0.1:{server.server_port}/{official.NAME}"
        )
        yield path
        server.shutdown()
        thread.join()


@pytest.fixture
def offline(published, monkeypatch):
    monkeypatch.setattr(official, "URL", "http://127.0.0.1:9/x.h5")
    return published


@pytest.fixture
def no_child(monkeypatch):
    """A file that is known needs none."""
    monkeypatch.setattr(sandbox, "CHILD", ("-c", "raise SystemExit(99)"))


@pytest.mark.usefixtures("no_child")
@pytest.mark.parametrize("source", ["auto", "imagenet"])
def test_the_published_file_is_fetched_verified_and_kept(source, published, own_cache):
    weights = load_weights(source, cut="block3", quiet=True)
    assert_same(weights.params, PARAMS)
    assert weights.origin == official.ORIGIN and weights.notice == ""
    assert weights.sha256 == hashlib.sha256(published.read_bytes()).hexdigest()
    published.unlink()  # now the server has it no more
    assert_same(load_weights(source, cut="block3", quiet=True).params, PARAMS)
    assert [path.name for path in (own_cache / "weights").iterdir()] == [official.NAME]


@pytest.mark.usefixtures("no_child")
def test_the_cache_of_keras_comes_first(offline, tmp_path, own_cache):
    cached = tmp_path / "keras" / "models" / official.NAME
    cached.parent.mkdir(parents=True)
    offline.rename(cached)
    assert_same(load_weights("imagenet", cut="block3", quiet=True).params, PARAMS)
    assert list(own_cache.iterdir()) == []


def test_a_damaged_cache_of_keras_is_passed_over_and_told(published, tmp_path, capsys):
    cached = tmp_path / "keras" / "models" / official.NAME
    cached.parent.mkdir(parents=True)
    data = bytearray(published.read_bytes())
    data[-1] ^= 1
    cached.write_bytes(data)
    assert_same(load_weights("imagenet", cut="block3", quiet=True).params, PARAMS)
    assert cached.read_bytes() == data
    assert f"warning: {cached} is damaged" in capsys.readouterr().err


def test_another_file_at_the_address_is_refused(published):
    data = bytearray(published.read_bytes())
    data[-1] ^= 1
    published.write_bytes(data)
    with pytest.raises(WeightsError, match="contents differ from their MD5"):
        load_weights("imagenet", cut="block3", quiet=True)


@pytest.mark.usefixtures("offline")
def test_offline_auto_is_random_and_says_so():
    weights = load_weights("auto", cut="block3", seed=3)
    assert "random weights, which have learnt nothing" in weights.notice
    assert weights.origin == "random (He-normal, seed 3)" and weights.sha256 == ""
    assert_same(weights.params, load_weights("random", cut="block3", seed=3).params)


@pytest.mark.usefixtures("offline")
def test_offline_imagenet_is_an_error():
    with pytest.raises(WeightsError, match="refused the connection.*Fix: .*source='random'"):
        load_weights("imagenet", cut="block3")


@pytest.mark.parametrize("source", ["auto", "imagenet"])
@pytest.mark.parametrize("half", [True, False], ids=["half", "damaged"])
def test_offline_a_broken_file_in_the_cache_of_keras_is_no_reason_for_random(
    source, half, offline, tmp_path
):
    cached = tmp_path / "keras" / "models" / official.NAME
    cached.parent.mkdir(parents=True)
    data = offline.read_bytes()
    cached.write_bytes(data[: len(data) // 2] if half else data[:-1] + b"x")
    says = f"a part of the file, {len(data) // 2:,} of {len(data):,}" if half else "damaged"
    with pytest.raises(WeightsError, match=f"{says}.*refused the connection") as error:
        load_weights(source, cut="block3", quiet=True)
    assert error.value.what == str(cached) and cached.is_file()


def test_random_weights_are_he_normal_and_seeded():
    params = load_weights("random", cut="block3").params
    assert_same(params, load_weights("random", cut="block3").params)
    kernel = params["block3_conv3"]["kernel"]
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (9 * 256)), rtol=0.01)
    assert abs(kernel.mean()) < 1e-4 and not params["block3_conv3"]["bias"].any()
    other = load_weights("random", cut="block3", seed=1).params["block3_conv3"]["kernel"]
    assert not np.array_equal(kernel, other)


def test_random_weights_of_a_deeper_cut_begin_the_same():
    deep = load_weights("random", cut="block4").params
    assert_same(
        {layer: deep[layer] for layer in table("block3")},
        load_weights("random", cut="block3").params,
    )


def test_words_that_are_no_source_are_a_usage_error():
    with pytest.raises(UsageError, match="did you mean imagenet"):
        load_weights("imagnet")
    with pytest.raises(UsageError, match="`cut` block2"):
        load_weights("random", cut="block2")


@pytest.mark.usefixtures("no_child")
def test_the_real_blocks(vgg16_file):
    weights = load_weights(vgg16_file, cut="block3")
    assert weights.origin.startswith("ImageNet")
    kernel = weights.params["block1_conv1"]["kernel"]
    np.testing.assert_allclose(np.linalg.norm(kernel), 8.5929, rtol=1e-5)
    with pytest.raises(WeightsError, match="block4_conv1 is missing.*pass `cut='block3'`"):
        load_weights(vgg16_file, cut="block4")


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return legacy(tmp_path / "x.h5", PARAMS)


def run(*argv):
    return cli.run(WeightsConfig, main, argv)


@pytest.mark.usefixtures("no_child")
def test_a_file_of_unknown_digest_is_never_parsed_here(file):
    with pytest.raises(WeightsError, match="could not be parsed safely: .* ended with 99"):
        load_weights(file, cut="block3")


def test_convert_writes_what_was_read(file, capsys):
    assert run("convert", "x.h5", "--cut", "block3") == 0
    report = capsys.readouterr().out
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    digest = hashlib.sha256(PARAMS["block2_conv1"]["bias"].tobytes()).hexdigest()[:16]
    for says in (
        sha256,
        digest,
        "3x3x64x128",
        "layout: legacy",
        "1,735,488",
        "wrote x.safetensors",
    ):
        assert says in report
    converted = load_weights("x.safetensors", cut="block3")
    assert_same(converted.params, PARAMS)
    assert converted.origin == f"file x.h5, converted (from SHA-256 {sha256[:16]})"
    assert converted.layout == "mnistjax safetensors"


def test_inspect_goes_as_deep_as_the_file(file, capsys):
    assert run("inspect", "x.h5") == 0
    out, err = capsys.readouterr()
    assert "block3_conv3/bias" in out and "ignored layers: none" in out and err == ""
    assert [path.name for path in file.parent.iterdir()] == ["x.h5"]


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        ("", 2, "Expected one of"),
        ("inspekt x.h5", 2, "inspekt"),
        ("inspect", 2, "SRC"),
        ("convert x.h5 --cutt block3", 2, "did you mean --cut?"),
        ("convert x.h5 --cut block2", 2, "--cut block2: not one of block3"),
        ("convert x.h5 --output x.h5", 2, "--output x.h5: is not called .safetensors"),
        ("convert x.safetensors", 2, "would overwrite its source"),
        ("inspect nowhere.h5", 4, "no such file"),
        ("convert x.h5", 4, "Fix: pass --cut block3"),
        ("inspect imagnet", 2, "error: SRC imagnet: not one of auto, imagenet"),
        ("convert x.h5 --cut block3 --output x.h5/y.safetensors", 5, "x.h5"),
    ],
)
def test_refused_in_one_line_and_nothing_left_behind(file, capsys, argv, code, says):
    assert run(*argv.split()) == code
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert says in err and "Fix: " in err
    assert [path.name for path in file.parent.iterdir()] == ["x.h5"]


@pytest.mark.parametrize("argv", ["--help", "convert --help", "inspect x.h5 --cut block2"])
def test_usage_is_answered_before_anything_heavy_is_imported(argv):
    code = (
        "import sys; from mnistjax import cli; from mnistjax.weights.__main__ import *\n"
        f"try: cli.run(WeightsConfig, main, {argv.split()})\n"
        "except SystemExit: pass\n"
        "print([n for n in ('jax', 'h5py', 'safetensors', 'requests') if n in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_the_module_is_called_by_its_name(file):
    command = [sys.executable, "-m", "mnistjax.weights", "inspect", "--help"]
    env = os.environ | {"COLUMNS": "100"}
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=env)
    assert "usage: python -m mnistjax.weights inspect" in out.stdout
