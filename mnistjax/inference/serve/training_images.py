"""The images that a run was trained on, if they can be had again without a network."""

from pathlib import Path
from typing import Any

import numpy as np

from mnistjax.data.dataset import Dataset
from mnistjax.data.digits import load_digits
from mnistjax.data.split import subset
from mnistjax.errors import DataError
from mnistjax.inference.images import ImageForm
from mnistjax.inference.own_data import Wanted, parts_of_run, settings_of_run
from mnistjax.inference.serve.nearest import Training

MOST = 60_000  # through the small CNN: seconds
MOST_VGG16 = 2_000  # of 64x64: 10 s; larger ones are as many fewer, 200 at least


def training_images(run: Path, about: dict[str, Any]) -> Training:
    """Those that the run in `run` moved its parameters by, or a sample of them where it is slow.

    Raises `DataError` that says why where they cannot be had, or are others now.
    """
    directory = run if run.is_dir() else run.parent
    config = settings_of_run(directory)
    data = _data(about, config)
    if data.sha256 != about["dataset_sha256"]:
        why = "are not what the run was trained on any more"
        raise DataError("the images there", why, fix="put them back")
    train, _ = parts_of_run(data, config)
    most = _most(about)
    kept = train if len(train.labels) <= most else subset(train, size=most, seed=0)
    count = len(train.labels)
    called = f"of {count:,} training images"
    if len(kept.labels) < count:
        called = f"of {len(kept.labels):,} training images, a sample of {count:,}"
    return Training(np.asarray(kept.images), kept.labels, called)


def _data(about: dict[str, Any], config: dict[str, Any]) -> Dataset:
    if about["dataset"] == "digits":
        return load_digits()
    place = config.get("data_dir")
    if not place or not Path(place).expanduser().exists():
        why = "came over the network" if not place else f"{place} is no more"
        raise DataError("the training images", why, fix="pass `data_dir` when training")
    wanted = Wanted.by(config) or Wanted(data_dir=Path(place))
    return wanted.load(ImageForm.of(about["images"]))


def _most(about: dict[str, Any]) -> int:
    frozen = about["network"].get("frozen")
    if frozen is None:
        return MOST
    return int(np.clip(MOST_VGG16 * (64 / frozen["image_size"]) ** 2, 200, MOST_VGG16))
