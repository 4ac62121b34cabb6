import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from mnistjax.data import download as download_module
from mnistjax.data.download import download
from mnistjax.errors import NetworkError

BODY = bytes(range(256)) * 400
SHA256 = hashlib.sha256(BODY).hexdigest()


class Server(BaseHTTPRequestHandler):
    asked: list[str] = []

    def do_GET(self):
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.asked.append(f"{self.path} {start}")
        if self.path == "/missing":
            self.send_error(404)
            return
        body = BODY[start:] if self.path != "/wrong" else b"x" * len(BODY)
        if self.path == "/endless":
            body = BODY * 3
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:1000] if self.path == "/broken" else body)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def address():
    Server.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def fetch(url, path):
    download(url, path, sha256=SHA256, size=len(BODY), quiet=True)


def test_arrives_whole_and_is_not_fetched_twice(address, tmp_path):
    for _ in range(2):
        fetch(f"{address}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY
    assert Server.asked == ["/file 0"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_md5_is_checked_where_no_better_is_published(address, tmp_path):
    md5 = hashlib.md5(BODY).hexdigest()
    download(f"{address}/file", tmp_path / "file", md5=md5, size=len(BODY), quiet=True)
    assert (tmp_path / "file").read_bytes() == BODY
    with pytest.raises(NetworkError, match="differ from their MD5.*Fix: look elsewhere"):
        download(
            f"{address}/wrong",
            tmp_path / "other",
            md5=md5,
            size=len(BODY),
            fix="look elsewhere",
            quiet=True,
        )


def test_a_part_is_continued(address, tmp_path):
    (tmp_path / "file.part").write_bytes(BODY[:5000])
    fetch(f"{address}/file", tmp_path / "file")
    assert Server.asked == ["/file 5000"]
    assert (tmp_path / "file").read_bytes() == BODY


def test_a_whole_part_that_is_wrong_is_fetched_again(address, tmp_path):
    (tmp_path / "file.part").write_bytes(bytes(len(BODY)))
    fetch(f"{address}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY


def test_a_broken_transfer_keeps_its_part(address, tmp_path):
    with pytest.raises(NetworkError, match="the part received is kept"):
        fetch(f"{address}/broken", tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file.part"]


@pytest.mark.parametrize(
    ("path", "says"), [("wrong", "SHA-256"), ("endless", "SHA-256"), ("missing", "answered 404")]
)
def test_what_is_not_the_file_leaves_nothing(address, tmp_path, path, says):
    with pytest.raises(NetworkError, match=says):
        fetch(f"{address}/{path}", tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_nobody_there(tmp_path):
    with pytest.raises(NetworkError, match="127.0.0.1 refused the connection.*name='digits'"):
        fetch("http://127.0.0.1:9/file", tmp_path / "file")


def test_a_name_look_up_that_hangs_is_given_up(tmp_path, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(download_module, "TIMEOUT", -0.9)
    monkeypatch.setattr(requests, "get", lambda *_, **__: release.wait())
    with pytest.raises(NetworkError, match="no answer within"):
        fetch("http://127.0.0.1:9/file", tmp_path / "file")
    release.set()
