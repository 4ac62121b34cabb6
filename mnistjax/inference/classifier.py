"""`load`: a finished run, or its model.safetensors, as a thing that answers."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from mnistjax.errors import StorageError
from mnistjax.inference.calibration import check_temperature
from mnistjax.inference.forward import Forward, make_forward, make_forward_of
from mnistjax.inference.images import Image, ImageForm, as_batch
from mnistjax.models.named import described_network
from mnistjax.report.scores import probabilities
from mnistjax.runs.archive import ARCHIVE, Archive, read_archive
from mnistjax.runs.run import Run
from mnistjax.runs.train import Model, as_functions


class Answers(NamedTuple):
    """What a classifier says of n images."""

    probabilities: Float[np.ndarray, "n classes"]
    class_names: tuple[str, ...]

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """The likeliest class of each, by number."""
        return self.probabilities.argmax(axis=1)

    @property
    def names(self) -> list[str]:
        """The likeliest class of each, by name."""
        return [self.class_names[label] for label in self.labels]

    def top(self, count: int) -> list[list[tuple[str, float]]]:
        """The `count` likeliest classes of each image with their probabilities, likeliest first.

        >>> Answers(np.array([[0.1, 0.7, 0.2]]), ("a", "b", "c")).top(2)
        [[('b', 0.7), ('c', 0.2)]]
        """
        orders = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :count]
        rows = zip(orders, self.probabilities, strict=True)
        return [[(self.class_names[i], float(row[i])) for i in order] for order, row in rows]


@dataclass(frozen=True)
class Classifier:
    """A trained network with all that an answer needs: made by `load`."""

    forward: Forward
    archive: Archive

    @property
    def about(self) -> dict[str, Any]:
        """What the run says of itself: network, images, versions, accuracy on its test set."""
        return self.archive.about

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the probabilities."""
        return tuple(self.about["class_names"])

    @property
    def form(self) -> ImageForm:
        """What becomes of an image before the network sees it."""
        return ImageForm.of(self.about["images"])

    def __repr__(self) -> str:
        name, shape = self.about["network"]["network"], "x".join(map(str, self.form.shape))
        return f"Classifier({name}, {shape}, {len(self.class_names)} classes)"

    def predict(
        self,
        images: Image | Sequence[Image],
        *,
        segment: bool = False,
        temperature: float = 1.0,
    ) -> Answers:
        """Classes and probabilities of one image or several, of any size.

        An image is the path of a file, its bytes, a `PIL.Image`, or an array [h, w] or
        [h, w, 1, 3 or 4] of uint8 or of floats in 0..1; an array [n, h, w(, c)] is n of them.
        Photos become squares as in training. Where training saw light characters on black, as
        MNIST's, a file or a picture of another size is brought to that form (`inference.drawn`);
        an array of the training images' shape is taken as it is. With `segment` a picture of
        several characters gives an answer for each, from left to right. `temperature` as `evaluate`
        fits it: above 1 makes probabilities less sure, and changes no answer. Raises `DataError`
        for what is no image, and without `segment` for several characters; `UsageError` for
        `segment` with photos.
        """
        check_temperature(temperature)
        logits = self.logits(self.see(images, segment=segment))
        return self.answers(logits, temperature=temperature)

    def see(
        self, images: Image | Sequence[Image], *, segment: bool = False
    ) -> UInt8[np.ndarray, "n h w c"]:
        """What the network sees of `images`: uint8 of the shape it was trained on."""
        return as_batch(images, self.form, segment=segment)

    def logits(self, seen: UInt8[np.ndarray, "n h w c"]) -> Float32[np.ndarray, "n classes"]:
        """The network's own numbers for images as `see` makes them.

        Of `CNN` and VGG16 bit for bit those of the run's own evaluation, on the same machine and
        versions; of others to rounding (1e-6).
        """
        return self.forward(seen)

    def answers(
        self, logits: Float32[np.ndarray, "n classes"], *, temperature: float = 1.0
    ) -> Answers:
        """Probabilities of the classes: the softmax of `logits / temperature`."""
        shares = probabilities(logits / np.float32(check_temperature(temperature)))
        return Answers(shares, self.class_names)


def load(run: Run | Path | str, *, model: Model | None = None) -> Classifier:
    """The classifier that a run left: from its directory, or its model.safetensors alone.

    Of a network that is not this library's, `model` is what it was trained from, an NNX module or
    `(apply_fn, params)`: its parameters are replaced by the trained ones. Raises `StorageError`
    for a run that has not ended or a damaged file, `UsageError` for a `model` missing or another.

    >>> load("nowhere")
    Traceback (most recent call last):
    mnistjax.errors.StorageError: nowhere: no such run or file. Fix: pass the directory of a run, or its model.safetensors
    """  # noqa: E501
    archive = read_archive(archive_path(run))
    model = model or described_network(archive.about["network"])
    if model is None:
        return Classifier(make_forward(archive), archive)
    apply_fn, params, model_state = as_functions(model)
    trained = archive.filled_in(params)
    state = archive.filled_in(model_state, "model_state")
    return Classifier(make_forward_of(apply_fn, trained, state), archive)


def archive_path(run: Run | Path | str) -> Path:
    """Where the model.safetensors of `run` is; raise `StorageError` if it has none."""
    path = Path(os.fspath(run.directory if isinstance(run, Run) else run)).expanduser()
    if not path.exists():
        fix = "pass the directory of a run, or its model.safetensors"
        raise StorageError(str(path), "no such run or file", fix=fix)
    if path.is_dir():
        _refuse_several(path)
        path = path / ARCHIVE
    if not path.exists():
        why = "holds no model.safetensors: its run has not ended, or is of an older version"
        raise StorageError(str(path.parent), why, fix="let it end with `resume=True`")
    return path


def _refuse_several(directory: Path) -> None:
    if seeds := sorted(directory.glob(f"seed-*/{ARCHIVE}")):
        why = f"holds runs of {len(seeds)} seeds"
        raise StorageError(str(directory), why, fix=f"pass one of them: {seeds[0].parent}")
