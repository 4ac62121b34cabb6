"""The server behind the page, in process; the page itself: test_serve_browser.py."""

import asyncio
import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serve_runs import ONE, SEVEN, cnn_run, photo, png_of, vgg16_run

pytest.importorskip("starlette", reason="starlette is not installed (the extra serve)")
pytest.importorskip("httpx2", reason="httpx2 is not installed (the extra test)")
import httpx2
from starlette.testclient import TestClient

import mnistjax as mj
from experiments import scratch, serve
from mnistjax import cli
from mnistjax.data.digits import load_digits
from mnistjax.data.split import hold_out
from mnistjax.errors import DataError
from mnistjax.inference.serve import requests
from mnistjax.inference.serve.app import make_app
from mnistjax.inference.serve.batching import Batcher
from mnistjax.inference.serve.inside import make_inside
from mnistjax.inference.serve.nearest import Nearest
from mnistjax.inference.serve.occlusion import covered, heat
from mnistjax.inference.serve.requests import LOOPBACK
from mnistjax.inference.serve.training_images import training_images

ROOT = Path(__file__).parent.parent
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return mj.load(cnn_run(tmp_path_factory.mktemp("cnn")))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return mj.load(vgg16_run(tmp_path_factory.mktemp("vgg16")))


@pytest.fixture(scope="module")
def client(classifier):
    with TestClient(make_app(classifier), raise_server_exceptions=False) as client:
        yield client


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def refused(response, status, words=""):
    told = response.json()
    assert response.status_code == status and set(told) == {"error", "fix"}, told
    for line in told.values():
        assert line and len(line.splitlines()) == 1 and "Traceback" not in line
    assert words in told["error"]
    return told


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
def test_the_answer_is_that_of_predict(client, classifier, tmp_path, kind):
    body = png_of(SEVEN, kind=kind)
    (tmp_path / "seven").write_bytes(body)
    expected = classifier.predict(tmp_path / "seven")
    answer = client.post("/predict", content=body, headers=PNG).json()
    assert [(one["name"], one["probability"]) for one in answer["top"]] == expected.top(10)[0]
    assert np.array_equal(pixels(answer["seen"]), classifier.see(tmp_path / "seven")[0, ..., 0])


def test_of_a_photo_too(photos, tmp_path):
    (tmp_path / "photo").write_bytes(photo())
    expected = photos.predict(tmp_path / "photo")
    with TestClient(make_app(photos)) as client:
        answer = client.post("/predict", content=photo(), headers=PNG).json()
    assert [(one["name"], one["probability"]) for one in answer["top"]] == expected.top(3)[0]
    assert pixels(answer["seen"]).shape == (32, 32, 3)


def test_several_characters_are_refused_or_read_from_left_to_right(client, classifier, monkeypatch):
    left = [[(x / 2, y) for x, y in points] for points in SEVEN]
    both = png_of(left + [[(x + 80, y) for x, y in points] for points in ONE])
    refused(client.post("/predict", content=both, headers=PNG), 422, "2 characters")
    answer = client.post("/predict?segment=1", content=both, headers=PNG).json()
    seen = classifier.see(np.asarray(Image.open(io.BytesIO(both))), segment=True)
    assert [pixels(one["seen"]).tolist() for one in answer["characters"]] == seen[..., 0].tolist()
    for name in ("inside", "where"):
        refused(client.post(f"/{name}?character=2", content=both, headers=PNG), 422)
        assert client.post(f"/{name}?character=1", content=both, headers=PNG).status_code == 200
    refused(client.post("/inside?character=-1", content=both, headers=PNG), 400)
    monkeypatch.setattr("mnistjax.inference.serve.service.MOST_CHARACTERS", 1)
    refused(client.post("/predict?segment=1", content=both, headers=PNG), 422, "more than 1")


def test_what_arrives_together_is_one_forward_pass_with_the_same_answers(classifier):
    bodies = [png_of([[(60 + n, 60), (200, 90 + n)]]) for n in range(12)]
    calls = []

    def counting(seen):
        calls.append(len(seen))
        return classifier.forward(seen)

    async def ask(app, together):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
            posts = [client.post("/predict", content=body, headers=PNG) for body in bodies]
            answers = await asyncio.gather(*posts) if together else [await post for post in posts]
        return [answer.json() for answer in answers]

    counted = replace(classifier, forward=counting)
    alone = asyncio.run(ask(make_app(counted), together=False))
    assert calls == [1] * 12
    assert asyncio.run(ask(make_app(counted), together=True)) == alone
    assert len(calls) < 24 and sum(calls) == 24


def test_a_batch_has_at_most_64_rows_and_leaves_out_who_has_gone():
    calls = []

    def forward(images):
        calls.append(images[:, 0, 0, 0].tolist())
        return images.reshape(len(images), -1)[:, :2].astype(np.float32)

    async def ask():
        batcher = Batcher(forward)
        images = np.arange(10 * 20, dtype=np.uint8).reshape(200, 1, 1, 1).repeat(2, axis=3)
        tasks = [asyncio.create_task(batcher(images[n : n + 20])) for n in range(0, 200, 20)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(done[1], asyncio.CancelledError)
        for n, logits in enumerate(done):
            if n != 1:
                assert isinstance(logits, np.ndarray)
                assert np.array_equal(logits[:, 0], np.arange(20 * n, 20 * n + 20))

    asyncio.run(ask())
    assert [len(call) for call in calls] == [60, 60, 60] and 20 not in sum(calls, [])


def test_a_pass_waits_for_pictures_that_are_being_decoded_but_not_for_ever():
    calls = []

    def forward(images):
        calls.append(len(images))
        return np.zeros((len(images), 2), np.float32)

    async def ask():
        batcher, image = Batcher(forward), np.zeros((1, 1, 1, 1), np.uint8)
        with batcher.expected():
            first = asyncio.create_task(batcher(image))
            for _ in range(5):  # a pass that did not wait would have begun
                await asyncio.sleep(0)
        await batcher(image)
        await first
        with batcher.expected():  # a picture that never comes
            await batcher(image)
            await asyncio.gather(*(batcher(image) for _ in range(64)))

    asyncio.run(ask())
    assert calls == [2, 1, 64]


def test_a_failing_pass_fails_its_batch_only():
    async def ask():
        def forward(images):
            if images.max():
                raise ValueError("broken")
            return np.zeros((len(images), 2), np.float32)

        batcher = Batcher(forward)
        with pytest.raises(ValueError, match="broken"):
            await batcher(np.ones((1, 2, 2, 1), np.uint8))
        assert (await batcher(np.zeros((1, 2, 2, 1), np.uint8))).shape == (1, 2)

    asyncio.run(ask())


def test_a_client_that_has_gone_costs_no_forward_pass(classifier):
    def never(seen):
        raise AssertionError("computed for nobody")

    messages = [{"type": "http.request", "body": png_of(SEVEN)}]
    sent = []

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b""}
    scope |= {"headers": [(b"content-type", b"image/png"), (b"host", b"x")], "root_path": ""}
    app = make_app(replace(classifier, forward=never))
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 499


BAD_KINDS = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]


@pytest.mark.parametrize("path", ["/predict", "/inside", "/where"])
def test_what_is_no_picture_is_refused(client, path):
    refused(client.post(path, content=b"", headers=PNG), 400, "no picture")
    refused(client.post(path, content=b"hello", headers=PNG), 422, "it is none")
    refused(client.post(path, content=png_of([]), headers=PNG), 422, "shows no character")
    for kind in BAD_KINDS:
        content = {"Content-Type": kind}
        refused(client.post(path, content=png_of(SEVEN), headers=content), 415)
    for kind in ({}, {"Content-Type": "application/octet-stream"}):
        assert client.post(path, content=png_of(SEVEN), headers=kind).status_code == 200
    refused(client.get(path), 405)


def test_other_addresses_are_json_too(client):
    for path in ("/nothing", "/static/../../etc/passwd", "/page.html", "/%2e%2e/x"):
        refused(client.get(path), 404)


def test_too_many_bytes_are_refused_before_they_are_read(client, monkeypatch):
    monkeypatch.setattr(requests, "MOST_BYTES", 1000)
    claimed = PNG | {"Content-Length": "1001"}
    refused(client.post("/predict", content=b"", headers=claimed), 413, "1,000 bytes")
    came = []

    def parts():
        for _ in range(100):
            came.append(1)
            yield b"x" * 100

    refused(client.post("/predict", content=parts(), headers=PNG), 413)


def test_a_picture_that_never_arrives_is_given_up(classifier, monkeypatch):
    monkeypatch.setattr(requests, "SECONDS", 0.01)

    async def ask():
        messages, sent = [{"type": "http.request", "body": b"x", "more_body": True}], []

        async def receive():
            if not messages:
                await asyncio.Event().wait()
            return messages.pop()

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b""}
        scope |= {"headers": [(b"host", b"x")], "root_path": ""}
        await make_app(classifier)(scope, receive, send)
        assert sent[0]["status"] == 408

    asyncio.run(ask())


def claims_much():
    """A PNG of 60,000 by 60,000, with its checksum right."""
    import struct
    import zlib

    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    parts = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c))
             for c in (header, data, b"IEND"))  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


WATCHED = []


def _watch(event, arguments):
    if WATCHED and event == "open":
        path, mode, flags = arguments
        writes = mode and set("wax+") & set(mode) or flags & (os.O_WRONLY | os.O_RDWR)
        if writes:
            WATCHED.append(path)
    elif WATCHED and event in ("os.mkdir", "os.rename", "tempfile.mkstemp", "tempfile.mkdtemp"):
        WATCHED.append(event)


def test_damaged_pictures_are_refused_in_one_line_and_nothing_is_written(client):
    random = np.random.default_rng(0)
    whole = [png_of(SEVEN), png_of(SEVEN, kind="JPEG"), png_of(SEVEN, kind="GIF"), photo()]
    bodies = [claims_much(), *(random.bytes(n) for n in (1, 31, 32, 33, 4000))]
    for body in whole:
        bodies += [body[:n] for n in (1, 8, 20, 33, len(body) // 2, len(body) - 1)]
        for _ in range(25):
            damaged = bytearray(body)
            for place in random.integers(0, len(body), random.integers(1, 6)):
                damaged[place] = random.integers(256)
            bodies.append(bytes(damaged))
    for path in ("predict", "inside", "where"):  # compiled: XLA's cache is a file
        assert client.post(f"/{path}", content=whole[0], headers=PNG).status_code == 200
    sys.addaudithook(_watch)
    WATCHED.append("watching")
    statuses = set()
    try:
        for body in bodies:
            response = client.post("/predict?segment=1", content=body, headers=PNG)
            statuses.add(response.status_code)
            if response.status_code != 200:
                refused(response, 422)
        for path in ("inside", "where"):
            client.post(f"/{path}", content=whole[0], headers=PNG)
        assert WATCHED == ["watching"]
    finally:
        WATCHED.clear()
    assert statuses == {200, 422}  # of JPEG, a changed byte may be a changed picture
    refused(client.post("/predict", content=claims_much(), headers=PNG), 422, "limit")


def test_a_fault_of_ours_is_one_line_here_and_there(classifier, capsys):
    def broken(seen):
        raise RuntimeError("a secret\nof two lines")

    with TestClient(make_app(replace(classifier, forward=broken))) as client:
        told = refused(client.post("/predict", content=png_of(SEVEN), headers=PNG), 500)
    assert "secret" not in str(told)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "warning: /predict: RuntimeError: a secret of two lines"


def test_only_names_of_this_machine_are_answered(classifier):
    with TestClient(make_app(classifier, hosts=LOOPBACK)) as client:
        for good in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
            assert client.get("/about", headers={"Host": good}).status_code == 200
        for bad in ("evil.example", "localhost.evil.example", "", "[", "127.0.0.1@evil.example"):
            for path in ("/", "/about"):
                response = client.get(path, headers={"Host": bad})
                refused(response, 421)
                assert response.headers["x-frame-options"] == "DENY"


def test_the_page_takes_nothing_from_outside_and_runs_only_its_own_script(client):
    first, second = client.get("/"), client.get("/")
    policy = first.headers["content-security-policy"]
    (nonce,) = set(re.findall(r"'nonce-([\w-]{20,})'", policy))
    assert first.text.count(f'nonce="{nonce}"') == 2 and nonce not in second.text
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    outside = re.findall(r"(?:https?:)?//[\w.]+\.\w+", first.text)
    assert set(outside) <= {"http://www.w3.org"}  # the name of SVG
    assert not re.search(r"\s(style|on\w+)=\"", first.text)  # the policy would stop them
    assert "innerHTML" not in first.text  # class names are folder names of the user's
    for response in (first, client.get("/about"), client.get("/nothing")):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in response.headers["content-security-policy"]


@pytest.mark.parametrize("made", ["classifier", "photos"])
def test_what_is_inside_leads_to_the_same_logits(made, request):
    network = request.getfixturevalue(made)
    shape = network.form.shape
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), np.uint8)
    inside = make_inside(network.archive)
    assert inside is not None
    maps, hidden = inside(images)
    params = network.archive.params
    last = params.get("head", params)["dense2"]
    logits = hidden @ last["kernel"] + last["bias"]
    np.testing.assert_allclose(logits, network.logits(images), rtol=1e-3, atol=1e-4)
    expected = {"classifier": ["conv1", "conv2"], "photos": ["block1", "block2", "block3"]}
    assert list(maps) == expected[made]


def test_layers_and_the_nearest_training_images(classifier, tmp_path):
    digits = load_digits()
    kept, held = hold_out(digits.train, fraction=0.1, seed=0)
    training = training_images(tmp_path, classifier.about)
    assert np.array_equal(training.images, kept.images) and training.called.startswith("of 1,293")
    inside = make_inside(classifier.archive)
    assert inside is not None
    like = inside(training.images[77:78])[1][0]

    async def ask():
        nearest = Nearest(inside, lambda: training)
        nearest.begin()
        while nearest.coming:
            await asyncio.sleep(0.01)
        return await nearest(like)

    found, note = asyncio.run(ask())
    assert np.array_equal(found[0][0], training.images[77]) and len(found) == 3
    assert note == training.called
    app = make_app(classifier, training=lambda: training)
    with TestClient(app) as client:
        answer = client.post("/inside", content=png_of(SEVEN), headers=PNG).json()
        while answer["coming"]:
            answer = client.post("/inside", content=png_of(SEVEN), headers=PNG).json()
    assert [layer["name"] for layer in answer["layers"]] == ["conv1", "conv2"]
    assert [layer["shape"][2] for layer in answer["layers"]] == [32, 64]
    assert len(answer["nearest"]) == 3 and pixels(answer["nearest"][0]["image"]).shape == (28, 28)


def test_training_images_that_are_gone_or_others_are_told(classifier, tmp_path):
    about = classifier.about | {"dataset": "mnist"}
    with pytest.raises(DataError, match="came over the network"):
        training_images(tmp_path, about)
    (tmp_path / "config.json").write_text(json.dumps({"data_dir": str(tmp_path / "gone")}))
    with pytest.raises(DataError, match="gone is no more"):
        training_images(tmp_path, about)
    with pytest.raises(DataError, match="not what the run was trained on any more"):
        training_images(tmp_path / "x", classifier.about | {"dataset_sha256": "0" * 64})

    def gone():
        raise DataError("the training images", "came over the network", fix="-")

    with TestClient(make_app(classifier, training=gone)) as client:
        answer = {"coming": True}
        while answer["coming"]:
            answer = client.post("/inside", content=png_of(SEVEN), headers=PNG).json()
    assert answer["nearest"] == [] and "came over the network" in str(answer["note"])


def test_a_large_training_set_is_sampled_where_it_is_slow(photos, tmp_path, monkeypatch):
    about = photos.about | {"dataset": "digits"}
    monkeypatch.setattr("mnistjax.inference.serve.training_images.MOST_VGG16", 200)
    training = training_images(tmp_path, about)
    assert len(training.images) == 200
    assert training.called == "of 200 training images, a sample of 1,293"


def test_the_heat_lies_where_covering_counts():
    image = np.full((28, 28, 1), 90, np.uint8)
    image[4:9, 18:23] = 255
    images, masks = covered(image, 127)
    brightness = images[:, 4:9, 18:23].mean((1, 2, 3)) / 255
    alpha = heat(1 - brightness, masks)[..., 3]
    top, left = np.unravel_index(alpha.argmax(), alpha.shape)
    assert 2 <= top <= 10 and 16 <= left <= 24
    assert alpha[20:, :10].max() == 0


def test_where_covers_a_drawing_with_its_ground_and_a_photo_with_grey(client, photos):
    answer = client.post("/where", content=png_of(SEVEN), headers=PNG).json()
    assert pixels(answer["heat"]).shape == (28, 28, 4)
    assert 0 <= answer["least"] <= answer["probability"] + 1e-3
    with TestClient(make_app(photos)) as of_photos:
        answer = of_photos.post("/where", content=photo(), headers=PNG).json()
    assert pixels(answer["heat"]).shape == (32, 32, 4)


def run(arguments):
    return cli.run(serve.ServeConfig, serve.main, arguments)


def test_wrong_use_is_one_line(capsys, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cases = [
            (["--port", "65536"], 2, "0..65535. Fix: pass --port 8000"),
            (["--platform", "gpuu"], 2, "did you mean gpu?"),
            (["nowhere"], 5, "nowhere: no such run"),
            ([str(tmp_path), "--host", "256.1.1.1"], 2, "--host 256.1.1.1: there is no such"),
            ([str(tmp_path), "--host", "192.0.2.1"], 2, "no address of this machine"),
            ([str(tmp_path), "--port", str(port)], 2, f"{port}: is in use. Fix: pass --port"),
            ([str(tmp_path), "--port", "0"], 5, "holds no model.safetensors"),
        ]
        for arguments, code, words in cases:
            assert run(arguments) == code
            (line,) = capsys.readouterr().err.splitlines()
            assert line.startswith("error: ") and words in line and "Fix: " in line
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    assert run([]) == 2
    assert capsys.readouterr().err.rstrip().endswith("Fix: pip install 'mnistjax[serve]'")


def test_usage_is_answered_before_jax_is_imported():
    code = "import sys, experiments.serve as s; from mnistjax import cli; "
    code += (
        "r = cli.run(s.ServeConfig, s.main, ['--port', '-1']); sys.exit(r + ('jax' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "--port -1" in done.stderr


def test_without_a_run_it_trains_on_the_digits_and_the_newest_is_served(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    asked = []

    def trains(config):
        asked.append(config.dataset)
        cnn_run(tmp_path / "runs" / "scratch-20260102-000000")
        (tmp_path / "runs" / "scratch-20260102-000000" / "config.json").write_text('{"began": 2}')
        return 0

    monkeypatch.setattr(scratch, "main", trains)
    monkeypatch.setattr("mnistjax.inference.serve.run.serve_until_signal", lambda app, bound: 2)
    assert run(["--port", "0"]) == 130
    said = capsys.readouterr()
    assert asked == ["digits"] and "training on the bundled digits first" in said.out
    assert "scratch-20260102-000000 serves it again" in said.err
    older = cnn_run(tmp_path / "runs" / "finetune-20260101-000000")
    (older / "config.json").write_text('{"began": 1}')
    (tmp_path / "runs" / "unfinished").mkdir()
    assert serve.newest_finished() == Path("runs/scratch-20260102-000000")


def test_a_real_server_answers_and_ends_at_ctrl_c(tmp_path):
    command = [sys.executable, "-m", "experiments.serve", str(cnn_run(tmp_path)), "--port", "0"]
    server = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        lines = [server.stdout.readline(), server.stdout.readline()]
        url = re.search(r"http://127\.0\.0\.1:\d+", lines[1])
        assert url, lines
        request = urllib.request.Request(f"{url[0]}/predict", png_of(SEVEN), PNG)
        with urllib.request.urlopen(request, timeout=60) as response:
            assert len(json.load(response)["top"]) == 10
            assert "server" not in response.headers
        server.send_signal(signal.SIGINT)
        _, said = server.communicate(timeout=60)
    finally:
        server.kill()
        server.communicate()
    assert server.returncode == 130
    assert said.startswith("interrupted: the page is served no longer.") and said.count("\n") == 1
