"""How many pictures a second a server reads: `python -m benchmarks serve`.

50 clients on loopback ask for 5 s, each as soon as it has its last answer: ours
(`experiments.serve`), and FastAPI with PyTorch in ten lines, which resizes the picture and no more,
where ours looks for the character in it. The picture is a drawn 7, a PNG of 280x280. The clients
share the cores.
"""

import asyncio
import io
import os
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from PIL import Image, ImageDraw

from benchmarks import ROOT
from benchmarks.harness.cells import NOT_INSTALLED, interpreter, pin, quiet
from benchmarks.harness.job import BenchmarkConfig, asked_for, finish, machine_facts
from benchmarks.tables import screen


@dataclass(frozen=True)
class Server:
    """`python -m <module> <arguments>` in `.venv-<venv>`, with RUN, PORT and THREADS filled in."""

    name: str
    arguments: tuple[str, ...]
    venv: str = ""


OURS = ("-m", "experiments.serve", "RUN", "--port", "PORT")
TORCH = ("-m", "benchmarks.peers.torch_server", "PORT", "THREADS")
SERVERS = (Server("mnistjax", OURS), Server("FastAPI and PyTorch", TORCH, "torch"))


@dataclass(frozen=True, kw_only=True)
class JobConfig(BenchmarkConfig):
    clients: int = 50
    """Connections that ask at the same time."""
    seconds: float = 5.0
    """How long they ask, after a second that does not count."""


def main(config: JobConfig) -> int:
    """Ask each server in turn, `--rounds` times; the exit code is 0 also without the peer."""
    servers = asked_for(config, SERVERS)
    machine = machine_facts(config)
    pin(config.threads)
    taken: dict[str, list[dict[str, float]]] = {server.name: [] for server in servers}
    with tempfile.TemporaryDirectory() as directory:
        _write_run(Path(directory))
        for _ in range(config.rounds):
            for server in servers:
                if interpreter(server.venv).is_file():
                    taken[server.name].append(_measure(server, directory, config))
    rows = {name: _summary(found) for name, found in taken.items()}
    table = screen.start_table(["server"], ["images/s", "p50, ms", "p99, ms", "failed"])
    for name, row in rows.items():
        keys = "images_per_second", "p50_ms", "p99_ms", "failed"
        table.add_row(name, *(str(row.get(key, "not run")) for key in keys))
    screen.console.print(table)
    return finish("serve", config, machine, {f"{config.clients} clients": {"rows": rows}})


def _write_run(directory: Path) -> None:
    """A run of the small CNN that has learned nothing: it answers as fast."""
    from flax import nnx

    from mnistjax.models.cnn import CNN
    from mnistjax.models.described import describe
    from mnistjax.models.functional import functional
    from mnistjax.runs.archive import ARCHIVE, write_archive

    model = CNN(rngs=nnx.Rngs(0))
    images = {"shape": [28, 28, 1], "fit": "crop", "photos": False, "ink_side": 20}
    about = {"network": describe(model), "images": images, "class_names": [*"0123456789"]}
    about |= {"dataset": "none", "dataset_sha256": "", "test_accuracy": 0.1, "test_examples": 1}
    write_archive(directory / ARCHIVE, functional(model)[1], (), about)


def _summary(found: list[dict[str, float]]) -> dict[str, Any]:
    if not found:
        return {"status": "not run", "why": NOT_INSTALLED}
    rates = [one["images_per_second"] for one in found]
    deciles = quantiles(rates, n=10, method="inclusive") if len(rates) > 1 else rates * 9
    each = {name: round(median(one[name] for one in found), 1) for name in found[0]}
    spread = {"p10": round(deciles[0], 1), "p90": round(deciles[-1], 1), "n": len(found)}
    return {"status": "measured"} | each | spread


def _measure(server: Server, run: str, config: JobConfig) -> dict[str, float]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    filled = {"RUN": run, "PORT": str(port), "THREADS": str(config.threads)}
    command = [str(interpreter(server.venv)), *(filled.get(of, of) for of in server.arguments)]
    environment = os.environ | quiet(config.threads)
    silent: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **silent) as process:
        try:
            _until_it_listens(port)
            return asyncio.run(_load(port, config.clients, config.seconds))
        finally:
            process.terminate()


def _until_it_listens(port: int, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=seconds).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


async def _load(port: int, clients: int, seconds: float) -> dict[str, float]:
    request = _request(port)
    await _ask(port, request, until=time.perf_counter(), took=[])  # ready once it has answered
    begin = time.perf_counter() + 1
    end = begin + seconds
    took: list[tuple[float, float, bool]] = []
    await asyncio.gather(*(_ask(port, request, until=end, took=took) for _ in range(clients)))
    counted = [(after - before, good) for before, after, good in took if begin <= after <= end]
    deciles = quantiles([each for each, _ in counted], n=100)
    return {
        "images_per_second": round(len(counted) / seconds, 1),
        "p50_ms": round(deciles[49] * 1000, 1),
        "p99_ms": round(deciles[98] * 1000, 1),
        "failed": sum(not good for _, good in counted),
    }


async def _ask(port: int, request: bytes, *, until: float, took: list) -> None:
    """Over one connection, one request after the other, at least one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:
        before = time.perf_counter()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        took.append((before, time.perf_counter(), head.startswith(b"http/1.1 200")))
        if took[-1][1] > until:
            break
    writer.close()
    await writer.wait_closed()


def _request(port: int) -> bytes:
    image = Image.new("L", (280, 280), 255)
    ImageDraw.Draw(image).line([(80, 70), (200, 70), (130, 220)], fill=0, width=22, joint="curve")
    file = io.BytesIO()
    image.save(file, "PNG")
    body = file.getvalue()
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: image/png\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
