"""The figures of docs/learn/network.md: python docs/figures/network.py"""

from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from drawing import STYLE, WIDTH, numbers, picture, write
from flax import nnx
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

import mnistjax as mj
from mnistjax.report.figures import INK, TRAIN, mosaic

COLUMNS = 8


def trained(data: mj.Dataset, *, seed: int = 0, learns: tuple[str, ...] = ("*",)) -> dict[int, Any]:
    """The small CNN's parameters by epoch, 0 to 5; the page trains it so, with all that learns."""
    apply_fn, params = mj.functional(mj.CNN(rngs=nnx.Rngs(seed)))
    frozen = mj.freeze_mask(params, trainable=learns)
    tx = optax.selective_transform(optax.adam(1e-3), freeze_mask=frozen)
    events = mj.fit(
        mj.init_state(params, tx),
        train_step=mj.make_train_step(apply_fn=apply_fn, tx=tx, frozen=frozen),
        eval_step=mj.make_eval_step(apply_fn=apply_fn),
        train=data.train,
        epochs=5,
        batch_size=32,
        seed=seed,
    )
    ends = [event for event in events if isinstance(event, mj.EpochEnd)]
    return {0: params} | {end.epoch: end.state.params for end in ends}


def layers(params: Any, x: jax.Array) -> dict[str, jax.Array]:
    """What comes out of each layer, as the page computes it."""
    conv = [
        lambda x, p=params[name]: nnx.relu(
            mj.ops.conv2d(x, p["kernel"], padding="VALID") + p["bias"]
        )
        for name in ("conv1", "conv2")
    ]
    maps1 = conv[0](x)
    pooled1 = mj.ops.max_pool(maps1)
    maps2 = conv[1](pooled1)
    pooled2 = mj.ops.max_pool(maps2)
    row = pooled2.reshape(len(x), -1)
    return {"maps1": maps1, "pooled1": pooled1, "maps2": maps2, "pooled2": pooled2, "row": row}


def dense(params: Any, row: jax.Array) -> jax.Array:
    hidden = nnx.relu(row @ params["dense1"]["kernel"] + params["dense1"]["bias"])
    return hidden @ params["dense2"]["kernel"] + params["dense2"]["bias"]


def tiles(axes: Axes, maps: Any, title: str, *, columns: int = COLUMNS, **how: Any) -> None:
    """`maps` [height, width, n] side by side; roots, or one strong map would leave all dark."""
    whole = mosaic(np.moveaxis(np.asarray(maps), -1, 0)[..., None], columns, side=112, gap=(8, 8))
    if "vmin" not in how:
        how = {"cmap": "viridis", "norm": PowerNorm(0.5, vmin=0, vmax=how["vmax"])}
    picture(axes, whole, title, **how)


def diverging(values: Any) -> dict[str, Any]:
    """Blue below zero, red above, to the largest of `values`."""
    largest = float(np.abs(values).max())
    return {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}


def first_layer(image: jax.Array, params: Any) -> Figure:
    """The image; the first 16 kernels, their maps, and the maps after pooling."""
    of, kernel = layers(params, image[None]), np.asarray(params["conv1"]["kernel"][:, :, 0, :16])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 5.3), layout="constrained")
        top, *below = figure.subfigures(3, 1, height_ratios=(1.15, 1, 1))
        left, right = top.subplots(1, 2, width_ratios=(1, 2.4))
        picture(left, image[..., 0], "image, 28x28", vmin=0, vmax=1)
        tiles(right, kernel, "16 of the 32 kernels, 3x3", **diverging(kernel))
        for part, name, size in zip(below, ("maps1", "pooled1"), (26, 13), strict=True):
            after = " after pooling" if name == "pooled1" else ""
            title = f"their maps{after}, {size}x{size}"
            tiles(part.subplots(), of[name][0, ..., :16], title, vmax=float(of[name].max()))
        return figure


def second_layer(image: jax.Array, params: Any) -> Figure:
    """16 of the second layer's maps, before and after pooling."""
    of = layers(params, image[None])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
        for axes, name, title in zip(
            figure.subplots(2, 1),
            ("maps2", "pooled2"),
            ("16 of the 64 maps, 11x11", "after pooling, 5x5"),
            strict=True,
        ):
            tiles(axes, of[name][0, ..., :16], title, vmax=float(of[name].max()))
        return figure


def votes(params: Any, row: jax.Array, label: int) -> np.ndarray:
    """What each place of the last maps, 5x5, adds to the logit of `label`."""
    slopes = jax.grad(lambda row: dense(params, row)[0, label])(row)
    return np.asarray((row * slopes).reshape(5, 5, 64).sum(axis=-1))


def answer(image: jax.Array, params: Any) -> Figure:
    """The places' votes for the two digits with the largest logits, and all ten logits."""
    row = layers(params, image[None])["row"]
    logits = np.asarray(dense(params, row)[0])
    first, second = np.argsort(-logits)[:2]
    tables = {label: votes(params, row, int(label)) for label in (first, second)}
    around = diverging(np.array([*tables.values()]))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
        top, below = figure.subfigures(2, 1, height_ratios=(1.5, 1))
        for axes, (label, table) in zip(top.subplots(1, 2), tables.items(), strict=True):
            total = f"{table.sum():.1f}".replace("-", "−")
            numbers(axes, table, f"votes for {label}, together {total}", **around)
        axes = below.subplots()
        axes.bar(np.arange(10), logits, color=TRAIN)
        axes.axhline(0, color=INK, lw=0.8)
        axes.set(xticks=range(10), xlabel="digit", ylabel="logit")
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(axis="x", length=0)
        return figure


def by_epoch(image: jax.Array, at: dict[int, Any]) -> Figure:
    """Eight kernels of layer 1 with their maps, eight maps of layer 2: at epochs 0, 1, 5."""
    epochs = (0, 1, 5)
    kernels = [np.asarray(at[epoch]["conv1"]["kernel"][:, :, 0, :COLUMNS]) for epoch in epochs]
    found = [layers(at[epoch], image[None]) for epoch in epochs]
    rows = {
        "kernels of layer 1": (kernels, diverging(kernels)),
        "their maps": ([np.asarray(of["maps1"][0, ..., :COLUMNS]) for of in found], {}),
        "maps of layer 2": ([np.asarray(of["maps2"][0, ..., :COLUMNS]) for of in found], {}),
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 6.3), layout="constrained")
        for part, (name, (values, how)) in zip(figure.subfigures(3, 1), rows.items(), strict=True):
            how = how or {"vmax": max(float(value.max()) for value in values)}
            places = part.subplots(3, 1, gridspec_kw={"hspace": 0})
            for axes, epoch, value in zip(places, epochs, values, strict=True):
                tiles(axes, value, name if epoch == 0 else "", **how)
                place = {"transform": axes.transAxes, "ha": "right", "va": "center"}
                axes.text(-0.02, 0.5, f"epoch {epoch}", **place)
        return figure


def main() -> None:
    data = mj.load_dataset("digits")
    five = int(np.flatnonzero(data.test.labels == 5)[0])
    image, at = jnp.asarray(data.test.images[five], jnp.float32) / 255, trained(data)
    write(first_layer(image, at[5]), "network-first")
    write(second_layer(image, at[5]), "network-second")
    write(answer(image, at[5]), "network-answer")
    write(by_epoch(image, at), "network-epochs")


if __name__ == "__main__":
    main()
