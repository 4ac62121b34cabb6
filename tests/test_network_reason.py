"""Each way a download fails is told by its name, with what helps; the servers are real ones."""

import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from urllib3.exceptions import NameResolutionError

from mnistjax.data import network_reason as why
from mnistjax.data.download import download
from mnistjax.data.load import load_dataset
from mnistjax.data.network_reason import reason
from mnistjax.errors import NetworkError

URL = "https://files.example.org/x.h5"


class Refusing(BaseHTTPRequestHandler):
    """A proxy, or a server: answers `code` whatever it is asked."""

    code = 407

    def do_GET(self):
        self.send_error(self.code)

    do_CONNECT = do_GET

    def log_message(self, format, *args):
        pass


def serving(handler, wrap=None):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if wrap is not None:
        server.socket = wrap(server.socket)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def refused(tmp_path, url=URL):
    with pytest.raises(NetworkError) as error:
        download(url, tmp_path / "x", size=3, sha256="00", fix="take another file", quiet=True)
    assert str(error.value).count("\n") == 0 and "no connection" not in str(error.value)
    return error.value


@pytest.mark.parametrize("url", [URL, URL.replace("https", "http")])
def test_a_proxy_that_wants_a_password(tmp_path, monkeypatch, url):
    with serving(Refusing) as server:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://me:SECRET@127.0.0.1:{server.server_port}")
        error = refused(tmp_path, url)
        server.shutdown()
    assert "wants a name and a password (407)" in error.why and error.fix == why.PASSWORD
    assert "SECRET" not in str(error) and error.told == f"{error.why}; {why.PASSWORD}"


def test_a_proxy_that_forbids_and_one_that_is_not_there(tmp_path, monkeypatch):
    class Forbids(Refusing):
        code = 403

    with serving(Forbids) as server:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.server_port}")
        error = refused(tmp_path)
        server.shutdown()
    assert error.why == "the proxy answered 403" and error.fix == why.PROXY
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    error = refused(tmp_path)
    assert error.why == "the proxy refused the connection" and error.fix == why.PROXY
    monkeypatch.setenv("https_proxy", "http://no-such-proxy.invalid:3128")
    error = refused(tmp_path)
    assert error.why == "the name of the proxy was not found (DNS)" and error.fix == why.PROXY


def test_names_and_refusals(tmp_path):
    error = refused(tmp_path, "https://no-such-host.invalid/x")
    assert error.why == "the name no-such-host.invalid was not found (DNS)"
    assert error.fix == "take another file" and error.told == error.why
    error = refused(tmp_path, "http://127.0.0.1:9/x")
    assert error.why == "127.0.0.1 refused the connection" and error.fix == "take another file"


def test_a_server_that_hangs_up(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up():
            connection, _ = server.accept()
            connection.recv(1000)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        error = refused(tmp_path, f"http://127.0.0.1:{server.getsockname()[1]}/x")
        thread.join()
    assert error.why == "127.0.0.1 broke off the connection"


def test_no_tls_where_it_should_be(tmp_path):
    with serving(Refusing) as server:
        error = refused(tmp_path, f"https://127.0.0.1:{server.server_port}/x")
        server.shutdown()
    assert error.why.startswith("127.0.0.1 does not speak TLS") and error.fix == why.PORTAL


def test_a_certificate_that_nobody_trusts(tmp_path):
    """Self-signed, as a company's proxy shows it."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    command += " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    try:
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl to make a certificate with")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with serving(Refusing, lambda plain: context.wrap_socket(plain, server_side=True)) as server:
        error = refused(tmp_path, f"https://127.0.0.1:{server.server_port}/x")
        server.shutdown()
    assert "the certificate of 127.0.0.1 is not trusted (self-signed" in error.why
    assert error.fix == why.BUNDLE


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        ("unable to get local issuer certificate", why.BUNDLE),
        ("certificate has expired", why.CLOCK),
        ("certificate is not yet valid", why.CLOCK),
        ("Hostname mismatch, certificate is not valid for 'a'", why.PORTAL),
    ],
)
def test_what_is_wrong_with_a_certificate_decides_what_helps(message, fix):
    cause = ssl.SSLCertVerificationError(1, message)
    cause.verify_message = message
    said, helps = reason(requests.exceptions.SSLError(cause), URL)
    assert said == f"the certificate of files.example.org is not trusted ({message})"
    assert helps == fix


@pytest.mark.parametrize(
    ("cause", "says"),
    [
        (OSError(101, "Network is unreachable"), "no way to files.example.org (Network is"),
        (OSError(104, "reset"), "files.example.org broke off the connection"),
        (OSError(28, "No space left on device"), "the disk is full"),
        (requests.exceptions.ConnectTimeout(), "files.example.org gave no answer in time"),
        (NameResolutionError("h", None, socket.gaierror(-3, "t")), "was not found (DNS)"),  # type: ignore[arg-type]
        (ValueError("what nobody foresaw"), "what nobody foresaw"),
    ],
)
def test_other_reasons(cause, says):
    wrapped = cause if isinstance(cause, requests.Timeout) else requests.ConnectionError(cause)
    assert says in reason(wrapped, URL)[0]


def test_a_circle_of_causes_ends():
    one, two = OSError("one"), OSError("two")
    one.__cause__, two.__cause__ = two, one
    assert reason(one, URL) == ("one", "")


def test_a_notice_says_what_helps(monkeypatch):
    from mnistjax.data import tfds

    def no_password(*_, **__):
        raise NetworkError("download", "407", fix=why.PASSWORD, mends=True)

    monkeypatch.setattr(tfds, "download", no_password)
    assert f"(407; {why.PASSWORD})" in load_dataset("auto").notice
