"""How far each layer moves, and what its learning is worth: the tables of docs/learn/network.md.

python docs/figures/network_moves.py

The small CNN on scikit-learn's digits as the page trains it, five seeds: the distance of each
layer's kernel from where it began, as a share of its own length then; and the test accuracy after
five epochs where some layers stay as they began; and the test accuracy of images moved.
"""

import jax
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


def cell(values: list[float], form: str = "{:.2f}") -> str:
    of = spread(np.array(values))
    return f"{form.format(of.mean)} ± {form.format(of.high - of.mean)}"


def moved(before: jax.Array, after: jax.Array) -> float:
    return float(np.linalg.norm(after - before) / np.linalg.norm(before))


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
    print("| layer | parameters | after epoch 1 | after epoch 5 |\n|---|---|---|---|")
    for layer in LAYERS:
        begins = [at[0][layer] for at in runs["all"]]
        count = sum(leaf.size for leaf in jax.tree.leaves(begins[0]))
        cells = [
            cell([moved(at[0][layer]["kernel"], at[epoch][layer]["kernel"]) for at in runs["all"]])
            for epoch in (1, 5)
        ]
        print(f"| `{layer}` | {count:,} | {' | '.join(cells)} |")
    print("\n| what learns | epoch 0 | epoch 1 | epoch 5 |\n|---|---|---|---|")
    for name, found in runs.items():
        cells = [cell([accuracy(at[epoch]) for at in found], "{:.1f}") for epoch in (0, 1, 5)]
        print(f"| {name} | {' | '.join(cells)} |")
    print("\n| moved to the right by | test accuracy, % |\n|---|---|")
    for pixels in (0, 1, 2, 3, 4):
        split = to_the_right(data.test, pixels)
        print(f"| {pixels} | {cell([accuracy(at[5], split) for at in runs['all']], '{:.1f}')} |")


if __name__ == "__main__":
    main()
