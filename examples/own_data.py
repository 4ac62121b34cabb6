"""Your own arrays, a network from our layers or yours, and a run directory with a report.

Images are uint8 [n, height, width, channels], labels integers from 0 on. Here both come from
scikit-learn's digits; put your own in their place.
"""

import numpy as np
from flax import nnx
from sklearn.datasets import load_digits

import mnistjax as mj

digits = load_digits()
images = (digits.images[..., None] * 255 / 16).astype(np.uint8)  # 8x8, grey
labels = digits.target.astype(np.int32)

data = mj.Dataset(
    "my digits",
    train=mj.Split(images[:1500], labels[:1500]),
    test=mj.Split(images[1500:], labels[1500:]),
    class_names=tuple("0123456789"),
    origin="scikit-learn",
)


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(1, 32, (3, 3), rngs=rngs)
        self.dense = nnx.Linear(4 * 4 * 32, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.conv(x)), (2, 2), (2, 2))
        return self.dense(x.reshape(len(x), -1))


run = mj.train(Net(nnx.Rngs(0)), data, "runs/own-data", epochs=20, batch_size=64)
print(f"{run.summary['test_accuracy']:.1%} right; look at {run.report}")
