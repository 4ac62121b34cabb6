"""MNIST, Fashion-MNIST and KMNIST through tensorflow-datasets, without TensorFlow.

Stock TFDS 4.9.10 needs TensorFlow to prepare these (tensorflow/datasets#11058): to gunzip, to open
files, to encode PNG. The builder below does those three itself. What it prepares is TFDS's own
format and can be read with `tfds.data_source(name, data_dir=..., download=False)`.
"""

import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from mnistjax.cache_dir import cache_dir
from mnistjax.data.dataset import Dataset, Split
from mnistjax.data.download import download
from mnistjax.data.idx import CLASS_NAMES, FILES, read_idx
from mnistjax.errors import DataError

ROLES = ("train_images", "train_labels", "test_images", "test_labels")
DTYPES = [np.uint8, np.int32, np.uint8, np.int32]
COUNTS = {"train": 60_000, "test": 10_000}


def load_tfds(name: str, *, quiet: bool = False) -> Dataset:
    """The TFDS data set `name` (mnist, fashion_mnist, kmnist), in IDX order.

    The first call downloads (12 to 50 MB, verified) and prepares it, about a minute; the decoded
    arrays are kept as .npy, since reading 70,000 PNGs back takes 30 s and .npy 0.2 s. A cached
    array whose digest changed is prepared again. Raises `NetworkError` within 10 s when offline.
    """
    dataset = load_cached(name)
    if dataset is None:
        dataset = _prepare(name, quiet=quiet)
        with suppress(OSError):  # no room for the copy: the next run decodes them again
            _save(dataset)
    return dataset


def load_cached(name: str) -> Dataset | None:
    """The arrays of an earlier `load_tfds`, or None if there are none or they are damaged."""
    directory = cache_dir() / "arrays" / name
    try:
        meta = json.loads((directory / "meta.json").read_text())
        arrays = {role: np.load(directory / f"{role}.npy") for role in ROLES}
        dataset = _dataset(name, arrays)
        # The digest sees bytes, not what the header calls them.
        whole = [array.dtype for array in arrays.values()] == DTYPES
        return dataset if whole and dataset.sha256 == meta["sha256"] else None
    except Exception:  # a damaged header makes np.load raise nearly anything
        return None


def _save(dataset: Dataset) -> None:
    final = cache_dir() / "arrays" / dataset.name
    final.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=final.parent))
    try:
        for role, array in zip(ROLES, (*dataset.train, *dataset.test), strict=True):
            np.save(part / f"{role}.npy", array)
        (part / "meta.json").write_text(json.dumps({"sha256": dataset.sha256}))
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _prepare(name: str, *, quiet: bool) -> Dataset:
    import tensorflow_datasets as tfds  # 2.7 s of import

    root = cache_dir() / "tfds"
    builder = make_builder(name, data_dir=root)
    downloads = root / "downloads" / name
    for url, info in builder.url_infos.items():
        file = downloads / url.rsplit("/", 1)[1]
        download(url, file, sha256=info.checksum, size=info.size, quiet=quiet)
    if quiet:
        tfds.disable_progress_bar()
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=downloads),
    )
    arrays = {}
    for part in COUNTS:
        arrays[f"{part}_images"], arrays[f"{part}_labels"] = read_split(builder, part)
        if len(arrays[f"{part}_labels"]) != COUNTS[part]:
            why = f"{len(arrays[f'{part}_labels'])} examples, not {COUNTS[part]}"
            raise DataError(f"{name} {part} split", why, fix=f"delete {root} and run again")
    return _dataset(name, arrays)


def read_split(builder, part: str) -> tuple[np.ndarray, np.ndarray]:
    """All images and labels of one prepared split, in the order they were written."""
    source = builder.as_data_source(split=part)
    examples = source.__getitems__(range(len(source)))
    images = np.stack([example["image"] for example in examples])
    return images, np.array([example["label"] for example in examples], np.int32)


def make_builder(name: str, *, data_dir: Path):
    """TFDS's builder of `name` with the parts that need TensorFlow replaced."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered
    from tensorflow_datasets.core.download import checksums
    from tensorflow_datasets.core.utils.resource_utils import tfds_path
    from tensorflow_datasets.image_classification import mnist as stock

    stock_class = {
        "mnist": stock.MNIST,
        "fashion_mnist": stock.FashionMNIST,
        "kmnist": stock.KMNIST,
    }[name]
    dataset_name = name

    with registered.skip_registration():

        class TensorFlowFree(stock_class):
            name = dataset_name
            pkg_dir_path = None  # its look-up wants importlib_resources, which TFDS leaves out
            url_infos = checksums.load_url_infos(tfds_path(f"url_checksums/{dataset_name}.txt"))

            def _info(self):
                info = super()._info()
                # In the order of the IDX files: TFDS else orders by a hash of the key.
                return tfds.core.DatasetInfo(
                    builder=self,
                    description=info.description,
                    features=info.features,
                    supervised_keys=info.supervised_keys,
                    homepage=info.homepage,
                    disable_shuffling=True,
                )

            def _split_generators(self, dl_manager):
                urls = {role: self.URL + FILES[role] + ".gz" for role in ROLES}
                paths = dl_manager.download(urls)  # download_and_extract needs TensorFlow
                return {
                    part: self._generate_examples(paths[f"{part}_images"], paths[f"{part}_labels"])
                    for part in COUNTS
                }

            def _generate_examples(self, images, labels) -> Iterator[tuple[int, dict]]:
                pixels, _ = read_idx(Path(images), ndim=3)
                classes, _ = read_idx(Path(labels), ndim=1)
                for index, (image, label) in enumerate(zip(pixels, classes, strict=True)):
                    yield index, {"image": _png(image), "label": int(label)}

    # array_record only: 4.9.10 loses five examples of six in parquet, tfrecord needs TensorFlow.
    return TensorFlowFree(data_dir=str(data_dir), file_format="array_record")


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def _dataset(name: str, arrays: dict[str, np.ndarray]) -> Dataset:
    return Dataset(
        name,
        train=Split(arrays["train_images"], arrays["train_labels"]),
        test=Split(arrays["test_images"], arrays["test_labels"]),
        class_names=CLASS_NAMES[name],
        origin="tensorflow-datasets",
    )
