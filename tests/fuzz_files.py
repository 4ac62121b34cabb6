"""Damage one file in many ways, read each copy, and count what comes of it.

    python tests/fuzz_files.py KIND COUNT SEED DIRECTORY     KIND: one of `READERS`
    python tests/fuzz_files.py corpus                        what was found, within the same limits

Up to four bytes are changed, or the file is cut, or a piece of it is doubled. Prints the outcomes
as JSON: "right" (what the whole file holds), "refused" (an error of ours) or what is a bug. Each
copy has a second of CPU time and all of them 200 MB more than this process had at its start: past
that it is killed, and the copy that did it lies in DIRECTORY. Copies that came to a bug are kept
there too, under names that say what: put them into tests/corpus/, which the tests replay.
"""

import ctypes
import gzip
import io
import json
import random
import resource
import signal
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from weights_files import TINY, random_params

from mnistjax.data.dataset import Dataset
from mnistjax.data.idx import read_idx
from mnistjax.data.load import load_dataset
from mnistjax.data.picture import read_picture
from mnistjax.errors import MnistjaxError
from mnistjax.weights.safetensors import read_safetensors, write_safetensors

MEMORY = 200 * 2**20
M_ARENA_MAX = -8  # of glibc's malloc.h
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 4, 4)).astype(np.uint8)
SETTINGS = {"batch_size": 128, "seed": 0, "dataset_sha256": "ab" * 32}
PHOTO = np.kron(PIXELS[:3], np.ones((1, 4, 4), np.uint8)).transpose(1, 2, 0)


class Kind(NamedTuple):
    """How a whole file is made, how it is read, and whether a result is right."""

    name: str
    make: Callable[[], bytes]
    read: Callable[[Path], Any]
    right: Callable[[Any], bool]


def idx() -> bytes:
    return bytes([0, 0, 8, 3]) + np.array(PIXELS.shape, ">u4").tobytes() + PIXELS.tobytes()


def image(form: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, form, **options)
    return file.getvalue()


def safetensors() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "made.safetensors")
        write_safetensors(path, random_params(), source_sha256="", origin="")
        return path.read_bytes()


def read_photo(path: Path) -> np.ndarray:
    with warnings.catch_warnings(action="ignore"):  # Pillow's, of metadata that nobody reads
        return read_picture(path, size=16)


def rows() -> bytes:
    """A metrics.jsonl as `MetricsLog` writes it."""
    lines = [{"kind": "step", "step": n, "epoch": 1, "loss": 0.5} for n in range(1, 6)]
    lines.append({"kind": "epoch", "step": 5, "epoch": 1, "val_loss": 0.25})
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def read_log(path: Path) -> list[Any]:
    from mnistjax.runs.log import read_rows  # jax: seconds that other kinds need not wait

    return read_rows(path)


def usable(got: list[Any]) -> bool:
    """A changed number is a number; what `MetricsLog` asks of a row has to be there."""
    return all(isinstance(row["step"], int) and isinstance(row["kind"], str) for row in got)


def read_settings(path: Path) -> None:
    from mnistjax.runs.settings import Setting, check_same_run

    settings = {name: Setting(value) for name, value in SETTINGS.items()}
    check_same_run(path.parent, settings)


def same_tensors(reading: Any) -> bool:
    expected = random_params()
    return all(
        np.array_equal(reading[0].params[layer][role], array)
        for layer, tensors in expected.items()
        for role, array in tensors.items()
    )


def header_only(whole: bytes) -> int:
    """Bytes of a safetensors file that are not tensors: a changed weight is a weight."""
    return 8 + int.from_bytes(whole[:8], "little")


LABELS = np.arange(20) % 2
COLOUR = np.random.default_rng(1).integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)


def npz() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, x_train=PIXELS, y_train=LABELS, x_test=PIXELS, y_test=LABELS)
    return file.getvalue()


def pixel_csv() -> bytes:
    rows = np.column_stack([LABELS, np.tile(PIXELS.reshape(20, -1), 4) // 2])
    lines = [",".join(["label", *(f"pixel{n}" for n in range(64))])]
    return "\n".join([*lines, *(",".join(map(str, row)) for row in rows)]).encode() + b"\n"


def cifar() -> bytes:
    planes = COLOUR.transpose(0, 3, 1, 2).reshape(20, -1)
    return np.column_stack([LABELS, planes]).astype(np.uint8).tobytes()


def svhn(*, compressed: bool) -> bytes:
    import scipy.io

    file = io.BytesIO()
    arrays = {"X": COLOUR[:, ::4, ::4].transpose(1, 2, 3, 0), "y": LABELS.astype(np.uint8)[:, None]}
    scipy.io.savemat(file, arrays, do_compression=compressed)
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("outer/digits.csv", pixel_csv())
        archive.writestr("outer/notes.txt", "notes")
    return file.getvalue()


def tarred() -> bytes:
    file, csv = io.BytesIO(), pixel_csv()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        entry = tarfile.TarInfo("outer/digits.csv")
        entry.size = len(csv)
        archive.addfile(entry, io.BytesIO(csv))
    return file.getvalue()


def read_set(path: Path) -> Dataset:
    return load_dataset("auto", path)


def shaped(got: Dataset, shape: tuple[int, ...]) -> bool:
    """A changed pixel or label is one: nothing in the file would tell."""
    images, labels = got.train.images, got.train.labels
    return images.shape[1:] == shape and len(images) == len(labels) and images.dtype == np.uint8


def same_set(make: Callable[[], bytes], name: str) -> Callable[[Dataset], bool]:
    """Whether a set is the one that the whole file holds."""

    @cache
    def expected() -> str:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, name)
            path.write_bytes(make())
            return read_set(path).sha256

    return lambda got: got.sha256 == expected()


READERS = {
    "idx": Kind(
        "file",
        idx,
        lambda path: read_idx(path, ndim=3)[0],
        lambda got: got.shape == PIXELS.shape and got[0].size == 16,
    ),
    "idx.gz": Kind(
        "file.gz",
        lambda: gzip.compress(idx(), mtime=0),
        lambda path: read_idx(path, ndim=3)[0],
        lambda got: np.array_equal(got, PIXELS),
    ),
    "png": Kind(
        "photo.png", lambda: image("PNG"), read_photo, lambda got: np.array_equal(got, PHOTO)
    ),
    # Nothing in a JPEG tells a changed pixel: any picture of the right form is right.
    "jpeg": Kind(
        "photo.jpg",
        lambda: image("JPEG", quality=90),
        read_photo,
        lambda got: (got.shape, got.dtype) == (PHOTO.shape, np.uint8),
    ),
    "safetensors": Kind(
        "x.safetensors", safetensors, lambda path: read_safetensors(path, TINY), same_tensors
    ),
    "npz": Kind("arrays.npz", npz, read_set, same_set(npz, "arrays.npz")),
    "zip": Kind("pixels.zip", zipped, read_set, same_set(zipped, "pixels.zip")),
    "tar.gz": Kind("pixels.tar.gz", tarred, read_set, same_set(tarred, "pixels.tar.gz")),
    "csv": Kind("pixels.csv", pixel_csv, read_set, lambda got: shaped(got, (8, 8, 1))),
    "cifar": Kind("data_batch_1.bin", cifar, read_set, lambda got: shaped(got, (32, 32, 3))),
    "mat": Kind(
        "train_32x32.mat",
        partial(svhn, compressed=True),
        read_set,
        same_set(partial(svhn, compressed=True), "train_32x32.mat"),
    ),
    "mat, plain": Kind(
        "plain-train_32x32.mat",
        partial(svhn, compressed=False),
        read_set,
        lambda got: got.train.images.shape[3] in (1, 3) and got.train.images.dtype == np.uint8,
    ),
    "metrics.jsonl": Kind("metrics.jsonl", rows, read_log, usable),
    "config.json": Kind(
        "config.json",
        lambda: json.dumps(SETTINGS, indent=2).encode(),
        read_settings,
        lambda got: got is None,
    ),
}


def outcome(kind: Kind, path: Path) -> str:
    """What reading `path` comes to."""
    try:
        got = kind.read(path)
    except MnistjaxError as error:
        return "refused" if "Fix: " in str(error) else f"no fix in {error}"
    except BaseException as error:
        return f"escaped {error!r}"[:200]
    return "right" if kind.right(got) else "wrong"


def damaged(whole: bytes, limit: int, chance: random.Random) -> bytes:
    """A copy that differs, in its first `limit` bytes if not in its length."""
    data = bytearray(whole)
    way = chance.random()
    if way < 0.1:
        return bytes(data[: chance.randrange(len(data))])
    if way < 0.15:
        start = chance.randrange(limit)
        piece = data[start : start + chance.randint(1, 64)]
        at = chance.randrange(limit)
        return bytes(data[:at] + piece + data[at:])
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(limit)
        data[at] ^= chance.choice((chance.randint(1, 255), 1 << chance.randrange(8)))
    return bytes(data)


def bound_memory() -> None:
    """Allow `MEMORY` more than is mapped now.

    Threads that JAX has begun share one heap from here on: glibc would map 64 MB for each at its
    first allocation, whenever that comes on a busy machine, and two of those are the limit.
    """
    ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def bounded(kind: Kind, path: Path) -> str:
    """`outcome` with a second of CPU time, whose end kills, C loop or not."""
    signal.setitimer(signal.ITIMER_PROF, 1)
    what = outcome(kind, path)
    signal.setitimer(signal.ITIMER_PROF, 0)
    return what


def main(name: str, count: int, seed: int, directory: Path) -> Counter[str]:
    """Outcomes of `count` damaged copies of a file of kind `name`."""
    kind, chance, outcomes = READERS[name], random.Random(seed), Counter()
    whole, path = kind.make(), directory / kind.name
    limit = header_only(whole) if name == "safetensors" else len(whole)
    path.write_bytes(whole)
    assert outcome(kind, path) == "right"  # and all there is to import is imported
    bound_memory()
    for index in range(count):
        path.write_bytes(data := damaged(whole, limit, chance))
        what = bounded(kind, path)
        outcomes[what] += 1
        if what not in ("right", "refused") and outcomes[what] <= 3:
            short = what.partition("(")[0].replace(" ", "-")
            (directory / f"{short}-{index}-{path.name}").write_bytes(data)
    return outcomes


def corpus() -> dict[str, str]:
    """The outcome of each file of tests/corpus, whose names end with the kind's."""
    files = sorted((Path(__file__).parent / "corpus").iterdir())
    kinds = {
        path: next(kind for kind in READERS.values() if path.name.endswith(kind.name))
        for path in files
    }
    for path, kind in kinds.items():  # all there is to import
        outcome(kind, path)
    bound_memory()
    return {path.name: bounded(kind, path) for path, kind in kinds.items()}


if __name__ == "__main__":
    if sys.argv[1] == "corpus":
        print(json.dumps(corpus()))
    else:
        name, count, seed, directory = sys.argv[1:]
        print(json.dumps(main(name, int(count), int(seed), Path(directory))))
