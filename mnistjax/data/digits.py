"""The 1,797 real handwritten digits that come with scikit-learn: data with no network at all."""

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
    from sklearn import datasets

    data, labels = datasets.load_digits(return_X_y=True)
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
