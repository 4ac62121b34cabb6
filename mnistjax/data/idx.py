"""IDX, the file format MNIST came in: read strictly, MNIST checked against its official digests.

Format: http://yann.lecun.com/exdb/mnist/ as kept in `github.com/cvdf-foundation/mnist`: two zero
bytes, a type byte (8 = uint8), the number of dimensions, each dimension as a big-endian uint32,
then the values, big-endian.
"""

import gzip
import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from mnistjax.data.dataset import Dataset, Split
from mnistjax.data.emnist import class_of, upright
from mnistjax.data.from_arrays import as_images, as_labels, make_dataset
from mnistjax.data.idx_names import TYPES, find_idx, is_idx
from mnistjax.data.plain import AGAIN, check_size, open_plain, read_up_to
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


def read_idx(path: Path, *, ndim: int | None = None) -> tuple[Shaped[np.ndarray, "..."], str]:
    """Read an IDX file, plain or gzip, into an array and the SHA-256 of its plain bytes.

    The array has the file's type: uint8, int8, int16, int32, float32 or float64. Reads no more than
    the header promises, and no promise over `plain.MAX_BYTES`. Raises `DataError` for a damaged
    gzip stream, what is not IDX or not of `ndim` dimensions, and a body shorter or longer than the
    header says.
    """
    with open_plain(path) as file:
        start = file.read(4)
        if not is_idx(start):
            why = f"starts with {start.hex() or 'nothing'}, which is not IDX"
            raise DataError(str(path), why, fix=AGAIN)
        dtype, sizes = np.dtype(TYPES[start[2]]), file.read(4 * start[3])
        if len(sizes) < 4 * start[3]:
            raise DataError(str(path), "ends within its IDX header", fix=AGAIN)
        shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
        if 0 in shape:
            raise DataError(str(path), f"is IDX that holds nothing, {shape}", fix=AGAIN)
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        zipped = path.stat().st_size if isinstance(file, gzip.GzipFile) else None
        check_size(path, size, packed=zipped)
        if ndim is not None and len(shape) != ndim:
            why = f"is IDX of {len(shape)} dimensions {shape}, not of {ndim}"
            raise DataError(str(path), why, fix="check that images and labels are not exchanged")
        body = read_up_to(file, size + 1)
    if len(body) != size:
        many = "more" if len(body) > size else f"{len(body):,}"
        why = f"its header promises {size:,} bytes {shape}, the file holds {many}"
        raise DataError(str(path), why, fix=AGAIN)
    digest = hashlib.sha256(start + sizes)
    digest.update(body)
    array = np.frombuffer(body, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False), digest.hexdigest()


def load_idx(
    directory: Path, *, name: str = "mnist", verify: bool = True, any_classes: bool = False
) -> Dataset:
    """Read the four IDX files of `name` (mnist, fashion_mnist, kmnist) in `directory`.

    With `verify`, MNIST's contents must match the official SHA-256; digests of the other two are
    published for their .gz files only, so they are checked for not being MNIST. `any_classes` takes
    labels over 9 for a set of its own. Raises `DataError` naming the file and the field.
    """
    files = (path for path in directory.iterdir() if path.is_file())
    arrays, sha256 = _read_set(directory, find_idx(files))
    for role, (path, digest) in sha256.items():
        if verify and (name == "mnist") != (digest == MNIST_SHA256[role]):
            why = "is MNIST itself" if name != "mnist" else f"SHA-256 {digest[:12]}... not MNIST's"
            fix = "pass `verify=False` for a look-alike set, or get MNIST's own files"
            raise DataError(str(path), why, fix=fix)
    train, test = (
        Split(arrays[f"{part}_images"], arrays[f"{part}_labels"].astype(np.int32))
        for part in ("train", "test")
    )
    if any_classes and train.labels.max(initial=0) >= len(CLASS_NAMES[name]):
        return make_dataset("idx", {"train": train, "test": test}, origin="IDX files")
    return Dataset(
        name,
        train=train,
        test=test,
        class_names=CLASS_NAMES[name],
        origin=f"IDX files{', digests verified' if verify and name == 'mnist' else ''}",
    )


def load_other_idx(key: str, files: list[Path]) -> Dataset:
    """Read the four IDX files of the set `key`, whatever its classes: EMNIST, QMNIST, your own.

    EMNIST's images are turned upright, and its classes have names. Raises `DataError`.
    """
    arrays, _ = _read_set(files[0].parent, find_idx(files, key), key)
    split = key.lower().removeprefix("emnist-") if key.lower().startswith("emnist") else None
    parts = {}
    for part in ("train", "test"):
        images = arrays[f"{part}_images"]
        parts[part] = (upright(images) if split else images, arrays[f"{part}_labels"])
    classes = class_of(split, files[0].parent / f"{key}-mapping.txt") if split else None
    return make_dataset(key or "idx", parts, origin="IDX files", class_of=classes)


def _read_set(
    directory: Path, paths: dict[str, Path], key: str = ""
) -> tuple[dict[str, np.ndarray], dict[str, tuple[Path, str]]]:
    """Images and labels by role, and for each the file with its SHA-256."""
    if missing := [file for role, file in FILES.items() if role not in paths]:
        before = f"{key}-" if key else ""
        missing = [before + (name.replace("t10k", "test") if key else name) for name in missing]
        why = f"no {', '.join(missing)} (plain or .gz)"
        raise DataError(f"`data_dir` {directory}", why, fix="put the four IDX files there")
    arrays, sha256 = {}, {}
    for role, path in paths.items():
        array, digest = read_idx(path)
        sha256[role] = path, digest
        if role.endswith("images"):
            arrays[role] = as_images(array, str(path))
        else:  # QMNIST's [n, 8]: the class, then who wrote it, where it stands in NIST
            one = array[:, 0] if array.ndim == 2 and array.shape[1] == 8 else array
            arrays[role] = as_labels(one, str(path))
    return arrays, sha256
