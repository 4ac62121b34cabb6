"""Which data set: one that is asked for, or what a run was trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mnistjax.data.dataset import Dataset, Split
from mnistjax.data.load import load_dataset
from mnistjax.data.picture import Photos
from mnistjax.data.split import part_validation, subset
from mnistjax.inference.images import DRAWN, ImageForm
from mnistjax.runs.directory import CONFIG, read_config


class Wanted(NamedTuple):
    """What `load_dataset` is told."""

    name: str = "auto"
    data_dir: Path | None = None
    verify: bool = True
    skip_unreadable: bool = False

    @classmethod
    def by(cls, settings: Mapping[str, Any]) -> "Wanted | None":
        """What `settings`, of a run or of flags, say of its data; None if they do not."""
        if "dataset" not in settings:
            return None
        place = settings.get("data_dir")
        return cls(
            settings["dataset"],
            None if place is None else Path(place),
            verify=not settings.get("allow_unverified_data", False),
            skip_unreadable=settings.get("skip_unreadable", False),
        )

    def load(self, form: ImageForm) -> Dataset:
        """The data set, its folders of pictures read for a network of `form`."""
        photos = photos_for(form)._replace(skip_unreadable=self.skip_unreadable)
        return load_dataset(self.name, self.data_dir, photos=photos, verify=self.verify)


def photos_for(form: ImageForm) -> Photos:
    """How folders of pictures are read for a network: as in training.

    Where that saw drawn characters, large enough that they can be found in them.
    """
    if form.ink_side is not None:
        return Photos(DRAWN, fit="pad", color=False)
    return Photos(form.shape[0], fit=form.fit, color=form.shape[2] == 3)


def parts_of_run(data: Dataset, settings: Mapping[str, Any]) -> tuple[Split, Split | None]:
    """What a run of `settings` on `data` trained on, and what it held out."""
    seed, count = settings.get("seed", 0), len(data.train.labels)
    examples = subset(data.train, size=settings.get("train_size") or count, seed=seed)
    return part_validation(data, examples, fraction=settings.get("validation", 0.1), seed=seed)


def settings_of_run(run: Path) -> dict[str, Any]:
    """Its `config.json`; {} for a model.safetensors alone."""
    return read_config(run) if (run / CONFIG).is_file() else {}
