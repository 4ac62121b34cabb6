"""How long each form of a convolution takes: docs/learn/convolution.md.

python docs/figures/convolution_times.py

Eight images of 28x28 with 32 channels, 64 kernels of 3x3. The forms in turn, medians of 21 rounds;
the four loops, which take seconds, of 3.
"""

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mnistjax as mj
from mnistjax.ops.convolution import conv2d_patches


def four_loops(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    y = np.zeros((len(x), x.shape[1] - 2, x.shape[2] - 2, kernel.shape[3]), np.float32)
    for image, result in zip(x, y, strict=True):
        for i, j in np.ndindex(result.shape[:2]):
            for a, b in np.ndindex(kernel.shape[:2]):
                result[i, j] += image[i + a, j + b] @ kernel[a, b]
    return y


def patches(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    height, width = x.shape[1] - 2, x.shape[2] - 2
    shifted = [x[:, a : a + height, b : b + width] for a in range(3) for b in range(3)]
    return np.concatenate(shifted, axis=-1) @ kernel.reshape(-1, kernel.shape[3])


def xla(x: jax.Array, kernel: jax.Array) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=numbers)


def with_gradients(operation: Callable[..., Any]) -> Callable[..., Any]:
    def all_three(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Any]:
        y, gradients = jax.vjp(operation, x, kernel)
        return y, gradients(y)

    return jax.jit(all_three)


FORMS = {
    "patches, JAX": partial(conv2d_patches, padding="VALID"),
    "Winograd: `mj.ops.conv2d`": partial(mj.ops.conv2d, padding="VALID"),
    "XLA's own: `jax.lax`": xla,
}


def main() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(8, 28, 28, 32)).astype(np.float32)
    kernel = random.normal(size=(3, 3, 32, 64)).astype(np.float32)
    arrays = jnp.asarray(x), jnp.asarray(kernel)
    calls: dict[tuple[str, str], Callable[[], Any]] = {
        ("four loops, NumPy", "forward"): lambda: four_loops(x, kernel),
        ("patches, NumPy", "forward"): lambda: patches(x, kernel),
    }
    for name, form in FORMS.items():
        calls[name, "forward"] = partial(jax.jit(form), *arrays)
        calls[name, "with both gradients"] = partial(with_gradients(form), *arrays)
    wanted = calls["patches, NumPy", "forward"]()
    for (name, what), call in calls.items():
        if what == "forward":
            np.testing.assert_allclose(call(), wanted, atol=1e-3, err_msg=name)
        jax.block_until_ready(call())
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for turn in range(21):
        for key, call in calls.items():
            if turn < 3 or "loops" not in key[0]:
                begin = time.perf_counter()
                jax.block_until_ready(call())
                times[key].append(1000 * (time.perf_counter() - begin))
    columns = "forward", "with both gradients"
    print("| | " + " | ".join(f"{column}, ms" for column in columns) + " |\n|---|---|---|")
    for name in dict.fromkeys(name for name, _ in calls):
        cells = [times.get((name, column)) for column in columns]
        print(f"| {name} | " + " | ".join(f"{median(c):.2f}" if c else "" for c in cells) + " |")


if __name__ == "__main__":
    main()
