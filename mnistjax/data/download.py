"""One file from the network: bounded waits, a progress bar, a verified digest, an atomic rename."""

import hashlib
import os
import threading
from functools import partial
from pathlib import Path

import requests
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from mnistjax.data.network_reason import reason
from mnistjax.errors import NetworkError

OTHER_DATA = "check the network, or pass a `data_dir` with files you have, or `name='digits'`"
TIMEOUT = 8.0  # seconds without an answer; name look-ups have no time-out of their own


def download(
    url: str,
    path: Path,
    *,
    size: int,
    sha256: str = "",
    md5: str = "",
    fix: str = OTHER_DATA,
    quiet: bool = False,
) -> None:
    """Fetch `url` to `path` unless a file with that digest is there already.

    Pass `sha256`, or `md5` for a publisher who gives no better; `fix` is what a user without the
    network can do, unless the reason itself says what helps. A broken transfer leaves
    `<path>.part`, which the next call continues. Raises `NetworkError` within about `TIMEOUT`
    seconds when nothing answers, and when the contents do not match.
    """
    algorithm, wanted = ("sha256", sha256) if sha256 else ("md5", md5)
    if path.is_file() and file_digest(path, algorithm) == wanted:
        return
    part = path.with_name(path.name + ".part")
    done = part.stat().st_size if part.is_file() else 0
    if done >= size:  # nothing left to ask for: a server would answer 416, again and again
        done = 0
    try:
        with _get(url, start=done) as response:
            response.raise_for_status()
            path.parent.mkdir(parents=True, exist_ok=True)
            resumed = response.status_code == requests.codes.partial_content
            with part.open("ab" if resumed else "wb") as file:
                _stream(response, file, size=size, done=done if resumed else 0, quiet=quiet)
                os.fsync(file.fileno())
    except (requests.RequestException, TimeoutError, OSError) as error:
        part_kept = "" if not part.is_file() else " (the part received is kept)"
        why, helps = reason(error, url)
        what = f"download {url}"
        raise NetworkError(what, why + part_kept, fix=helps or fix, mends=bool(helps)) from error
    if file_digest(part, algorithm) != wanted:
        part.unlink()
        why = f"contents differ from their {'SHA-256' if sha256 else 'MD5'}"
        raise NetworkError(f"download {url}", why, fix=fix)
    part.replace(path)


def _get(url: str, *, start: int) -> requests.Response:
    """`requests.get` that gives up in time even while a name is looked up."""
    answer: list[requests.Response | Exception] = []

    def ask() -> None:
        headers = {"Range": f"bytes={start}-"} if start else {}
        try:
            answer.append(requests.get(url, headers=headers, stream=True, timeout=TIMEOUT))
        except Exception as error:
            answer.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(TIMEOUT + 1)
    if not answer:
        raise TimeoutError(f"no answer within {TIMEOUT:.0f} s")
    if isinstance(answer[0], Exception):
        raise answer[0]
    return answer[0]


def _stream(response: requests.Response, file, *, size: int, done: int, quiet: bool) -> None:
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, transient=True, disable=quiet) as progress:
        task = progress.add_task(f"Downloading {Path(response.url).name}", total=size)
        progress.update(task, completed=done)
        for chunk in response.iter_content(2**16):
            done += len(chunk)
            if done > size:  # an endless answer must not fill the disk
                break
            file.write(chunk)
            progress.update(task, completed=done)
    file.flush()


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hexadecimal digest of a file; MD5 tells damage, not malice."""
    with path.open("rb") as file:
        new = partial(hashlib.new, algorithm, usedforsecurity=algorithm != "md5")
        return hashlib.file_digest(file, new).hexdigest()
