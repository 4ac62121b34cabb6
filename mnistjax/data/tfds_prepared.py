"""Any image set that tensorflow-datasets has prepared as array_record, without TensorFlow."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mnistjax.data.dataset import Dataset, as_split
from mnistjax.errors import DataError

INFO = "dataset_info.json"
TEST_NAMES, VALIDATION_NAMES = ("test", "validation", "val"), ("validation", "val", "dev")


class _Pairs(NamedTuple):
    """A TFDS source as pairs of image and label, under whatever names it has them."""

    source: Any
    image: str
    label: str

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Any, Any]:  # type: ignore[override]
        example: Mapping[str, Any] = self.source[index]
        return example[self.image], example[self.label]


def load_prepared(directory: Path) -> Dataset:
    """The set in `directory`, where TFDS left its `dataset_info.json`: all splits it has.

    It has to have one image and one class label, and images of one size. Raises `DataError` for
    what it has instead, and for another format than array_record, with how to prepare that.
    """
    import tensorflow_datasets as tfds  # 2.7 s of import

    info = _info(directory)
    name = info.get("name", directory.name)
    if info.get("fileFormat") != "array_record":
        why = f"is prepared as {info.get('fileFormat', 'tfrecord')}, which takes TensorFlow to read"
        fix = f"prepare it anew: tfds build {name} --file_format=array_record"
        raise DataError(str(directory), why, fix=fix)
    builder: Any = tfds.builder_from_directory(str(directory))
    features: Any = builder.info.features
    splits = list(builder.info.splits)
    image = _only(directory, features, tfds.features.Image, "image")
    label = _only(directory, features, tfds.features.ClassLabel, "class label")
    given = {
        split: as_split(_Pairs(builder.as_data_source(split), image, label)) for split in splits
    }
    test = next((split for split in TEST_NAMES if split in given), None)
    if "train" not in given or test is None:
        why = f"its splits are {', '.join(splits)}"
        raise DataError(str(directory), why, fix="take a set with train and test or validation")
    validation = next((split for split in VALIDATION_NAMES if split in given and split != test), "")
    unused = sorted(set(given) - {"train", test, validation})
    return Dataset(
        name,
        train=given["train"],
        test=given[test],
        validation=given.get(validation),
        class_names=tuple(features[label].names),
        origin="tensorflow-datasets",
        notice=f"the splits {', '.join(unused)} are not used" if unused else "",
    )


def find_prepared(name: str, data_dir: Path | None) -> Path:
    """The newest prepared version of the TFDS set `name`, in `data_dir` or where TFDS keeps them.

    Raises `DataError` where there is none.
    """
    usual = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    root = (data_dir or Path(usual)).expanduser()
    found = sorted(root.glob(f"{name}/**/{INFO}"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        fix = f"prepare it: tfds build {name} --file_format=array_record, or pass its `data_dir`"
        raise DataError(f"`name='tfds:{name}'`", f"is not prepared in {root}", fix=fix)
    return found[-1].parent


def _info(directory: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((directory / INFO).read_text()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{directory / INFO}", str(error), fix="prepare the set anew") from error


def _only(directory: Path, features: Any, kind: type, what: str) -> str:
    names = [name for name, feature in features.items() if isinstance(feature, kind)]
    if len(names) != 1:
        why = f"it has {len(names)} features that are a {what} ({', '.join(features)})"
        raise DataError(str(directory), why, fix="take a set for image classification")
    return names[0]
