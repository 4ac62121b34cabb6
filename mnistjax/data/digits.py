"""The 1,797 real handwritten digits that come with scikit-learn: data with no network at all."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from mnistjax.data.dataset import Dataset, Split
from mnistjax.data.split import hold_out


def load_digits() -> Dataset:
    """8x8 digits of 43 people, enlarged to 28x28: 1,437 for training, 360 for testing.

    The enlargement is Pillow's bicubic; the split is stratified and always the same, whatever the
    seed of a run. Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits,
    UCI Machine Learning Repository, 1998 (`sklearn.datasets.load_digits`).

    >>> load_digits().train.images.shape
    (1437, 28, 28, 1)
    """
    from PIL import Image

    table = _table()
    data, labels = table[:, :-1], table[:, -1]
    small = np.rint(data * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    large = [Image.fromarray(digit).resize((28, 28), Image.Resampling.BICUBIC) for digit in small]
    digits = Split(np.stack([np.asarray(image) for image in large])[..., None], labels.astype("i4"))
    train, test = hold_out(digits, fraction=0.2, seed=0)
    return Dataset(
        "digits",
        train=train,
        test=test,
        class_names=tuple("0123456789"),
        origin="bundled with scikit-learn, 8x8 enlarged to 28x28",
        enlarged_from=8,
    )


def _table() -> np.ndarray:
    """float [1797, 65]: 64 pixels of 0..16, and the label.

    From scikit-learn's file itself: to import `sklearn.datasets` takes a second and more.
    """
    spec = find_spec("sklearn")
    for place in (spec and spec.submodule_search_locations) or ():
        file = Path(place) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    from sklearn import datasets  # wherever it keeps them then

    data, labels = datasets.load_digits(return_X_y=True)
    return np.column_stack([np.asarray(data), np.asarray(labels)])
