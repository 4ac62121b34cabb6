"""How far each layer moves, and what its learning is worth: the tables of docs/learn/network.md.

python docs/figures/network_moves.py

The small CNN on scikit-learn's digits as the page trains it, five seeds, means and 95 % intervals:
how large the weights of each kernel are at the beginning and how far they are from there after five
epochs (roots of mean squares), and the share of one in the other; the test accuracy where some
layers stay as they began; and that of images moved to the right.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from network import trained

import mnistjax as mj
from mnistjax.inference.several import spread

SEEDS = range(5)
LAYERS = "conv1", "conv2", "dense1", "dense2"
LEARNING = {
    "all": ("*",),
    "all but the first convolution": ("conv2/*", "dense*"),
    "all but both convolutions": ("dense*",),
    "all but the first dense layer": ("conv*", "dense2/*"),
    "all but both dense layers": ("conv*",),
    "the second dense layer alone": ("dense2/*",),
}


def cell(values: Any, form: str = "{:.2f}") -> str:
    of = spread(np.asarray(values))
    return f"{form.format(of.mean)} ± {form.format(of.high - of.mean)}"


def rms(values: jax.Array) -> float:
    """The root of the mean square."""
    return float(jnp.sqrt(jnp.mean(values**2)))


def to_the_right(split: mj.Split, pixels: int) -> mj.Split:
    side = split.images.shape[2]
    padded = np.pad(split.images, [(0, 0), (0, 0), (pixels, 0), (0, 0)])
    return mj.Split(padded[:, :, :side], split.labels)


def main() -> None:
    data = mj.load_dataset("digits")
    eval_step = mj.make_eval_step(apply_fn=mj.functional(mj.CNN(rngs=nnx.Rngs(0)))[0])

    def accuracy(params, split: mj.Split = data.test) -> float:
        return 100 * mj.evaluate(eval_step, params, split)[0].accuracy

    runs = {
        name: [trained(data, seed=s, learns=learns) for s in SEEDS]
        for name, learns in LEARNING.items()
    }
    print("| kernel | weights | size | moved | share, epoch 1 | epoch 5 |")
    print("|---|---|---|---|---|---|")
    for layer in LAYERS:
        kernels = [{epoch: at[epoch][layer]["kernel"] for epoch in at} for at in runs["all"]]
        sizes = [rms(of[0]) for of in kernels]
        moves = {epoch: [rms(of[epoch] - of[0]) for of in kernels] for epoch in (1, 5)}
        shares = {epoch: np.divide(moves[epoch], sizes) for epoch in moves}
        cells = [f"{kernels[0][0].size:,}", f"{np.mean(sizes):.3f}", f"{np.mean(moves[5]):.3f}"]
        print(f"| `{layer}` | {' | '.join([*cells, cell(shares[1]), cell(shares[5])])} |")
    print("\n| what learns | epoch 0 | epoch 1 | epoch 5 |\n|---|---|---|---|")
    for name, found in runs.items():
        cells = [cell([accuracy(at[epoch]) for at in found], "{:.1f}") for epoch in (0, 1, 5)]
        print(f"| {name} | {' | '.join(cells)} |")
    print("\n| moved to the right by, pixels | accuracy, % |\n|---|---|")
    for pixels in (0, 1, 2, 3, 4):
        split = to_the_right(data.test, pixels)
        print(f"| {pixels} | {cell([accuracy(at[5], split) for at in runs['all']], '{:.1f}')} |")


if __name__ == "__main__":
    main()
