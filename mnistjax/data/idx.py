"""IDX, the file format MNIST came in: read strictly, checked against the official digests.

Format: http://yann.lecun.com/exdb/mnist/ as kept in `github.com/cvdf-foundation/mnist`: two zero
bytes, a type byte (8 = uint8), the number of dimensions, each dimension as a big-endian uint32,
then the values.
"""

import gzip
import hashlib
import io
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mnistjax.data.dataset import Dataset, Split
from mnistjax.errors import DataError

FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}

# SHA-256 of the *uncompressed* files: a .gz differs with whatever program made it.
MNIST_SHA256 = {
    "train_images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train_labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "test_images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "test_labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

CLASS_NAMES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}

# Ten times MNIST's training images: a header may promise any size, and gzip packs zeros 1000:1.
MAX_BYTES = 2**29


def read_idx(path: Path, *, ndim: int) -> tuple[UInt8[np.ndarray, "..."], str]:
    """Read a uint8 IDX file, plain or gzip, into an array and the SHA-256 of its plain bytes.

    Reads no more than the header promises, and no promise over `MAX_BYTES`. Raises `DataError`
    for a damaged gzip stream, a wrong type or number of dimensions, and a body shorter or longer
    than the header says.
    """
    again = "delete the file and get it again"
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            header = file.read(4 + 4 * ndim)
            if header[:4] != bytes([0, 0, 8, ndim]) or len(header) < 4 + 4 * ndim:
                why = f"starts with {header[:4].hex() or 'nothing'}, not 000008{ndim:02x} (IDX)"
                raise DataError(str(path), why, fix=again)
            shape = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
            size = int(np.prod(shape, dtype=object))
            if size > MAX_BYTES:
                why = f"its header promises {size:,} bytes {shape}, more than {MAX_BYTES:,}"
                raise DataError(str(path), why, fix=again)
            body = _read_up_to(file, size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(str(path), f"damaged gzip file ({error})", fix=again) from error
    except OSError as error:
        fix = "check that the file exists and may be read"
        raise DataError(str(path), error.strerror or str(error), fix=fix) from error
    if len(body) != size:
        many = "more" if len(body) > size else f"{len(body):,}"
        why = f"its header promises {size:,} bytes {shape}, the file holds {many}"
        raise DataError(str(path), why, fix=again)
    digest = hashlib.sha256(header)
    digest.update(body)
    return np.frombuffer(body, np.uint8).reshape(shape), digest.hexdigest()


def _read_up_to(file: io.BufferedIOBase, size: int) -> bytearray:
    """At most `size` bytes, piece by piece: `read(size)` would reserve them for an empty file."""
    body = bytearray()
    while piece := file.read(min(size - len(body), 2**20)):
        body += piece
    return body


def find_idx(directory: Path) -> dict[str, Path]:
    """The IDX files in `directory` by role, in either usual spelling; missing ones left out."""
    found = {}
    for role, name in FILES.items():
        for spelling in (name, name.replace("-idx", ".idx")):
            for path in (directory / spelling, directory / f"{spelling}.gz"):
                if path.is_file():
                    found.setdefault(role, path)
    return found


def load_idx(directory: Path, *, name: str = "mnist", verify: bool = True) -> Dataset:
    """Read the four IDX files of `name` (mnist, fashion_mnist, kmnist) in `directory`.

    With `verify`, MNIST's contents must match the official SHA-256; digests of the other two are
    published for their .gz files only, so they are checked for not being MNIST. Raises `DataError`
    naming the file and the field.
    """
    paths = find_idx(directory)
    if missing := [file for role, file in FILES.items() if role not in paths]:
        why = f"no {', '.join(missing)} (plain or .gz)"
        raise DataError(f"`data_dir` {directory}", why, fix="put the four IDX files there")
    arrays = {}
    for role, path in paths.items():
        array, sha256 = read_idx(path, ndim=3 if role.endswith("images") else 1)
        if verify and (name == "mnist") != (sha256 == MNIST_SHA256[role]):
            why = "is MNIST itself" if name != "mnist" else f"SHA-256 {sha256[:12]}... not MNIST's"
            fix = "get the file again, or pass `verify=False` for a look-alike set"
            raise DataError(str(path), why, fix=fix)
        arrays[role] = array
    return Dataset(
        name,
        train=_split(arrays["train_images"], arrays["train_labels"]),
        test=_split(arrays["test_images"], arrays["test_labels"]),
        class_names=CLASS_NAMES[name],
        origin=f"IDX files{', digests verified' if verify and name == 'mnist' else ''}",
    )


def _split(images: np.ndarray, labels: np.ndarray) -> Split:
    return Split(images[..., None], labels.astype(np.int32))
