"""Is one recipe better than another? The difference of two runs, seed by seed or image by image."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnistjax.errors import StorageError
from mnistjax.inference.several import Several, Spread, several_of, spread
from mnistjax.runs.directory import read_config
from mnistjax.runs.run import Run


class Comparison(NamedTuple):
    """What `compare_runs` found, in shares: B minus A."""

    seeds: list[int]
    """Those that both have; empty if two networks were compared image by image."""
    accuracies: list[tuple[float, float]]
    """(A, B) of each pair."""
    difference: Spread
    differing: dict[str, tuple[Any, Any]]
    """Settings that are not the same in both."""

    @property
    def means_something(self) -> bool:
        """Whether the 95 % interval leaves 0 out."""
        return bool(self.difference.low > 0 or self.difference.high < 0)


def compare_runs(a: Path | str, b: Path | str) -> Comparison:
    """Test accuracy of `b` minus that of `a`: finished runs, or those of several seeds.

    With two seeds or more in common, seeds are paired: the interval is Student's t of their
    differences and speaks of other seeds. Else two networks are compared on their test images: the
    interval is that of paired proportions (Fleiss, Levin and Paik 2003, 13.1) and speaks of other
    images only. Raises `StorageError` for runs that have not ended or have other test images.
    """
    ours, theirs = runs_by_seed(Path(a)), runs_by_seed(Path(b))
    seeds = sorted(ours.keys() & theirs.keys())
    if min(len(ours), len(theirs)) > 1 and not seeds:
        fix = "train both with the same seeds"
        raise StorageError(f"{a} and {b}", "have no seed in common", fix=fix)
    pairs = [(ours[seed], theirs[seed]) for seed in seeds]
    pairs = pairs or [(next(iter(ours.values())), next(iter(theirs.values())))]
    both = [several_of([*pair]) for pair in pairs]
    accuracies = [(float(of.accuracies[0]), float(of.accuracies[1])) for of in both]
    several = len(seeds) > 1
    apart = np.array([second - first for first, second in accuracies])
    return Comparison(
        seeds if several else [],
        accuracies,
        spread(apart) if several else _by_images(both[0]),
        _differing(pairs[0][0], pairs[0][1]),
    )


def runs_by_seed(directory: Path) -> dict[int, Run]:
    """The run in `directory` by its seed, or all those of a training with several seeds."""
    summary = Run(directory).summary
    seeds = summary.get("seeds")
    if seeds is None:
        return {int(summary.get("seed", 0)): Run(directory)}
    return {int(seed): Run(directory / f"seed-{seed}") for seed in seeds}


def _by_images(both: Several) -> Spread:
    """The difference of two networks; NaN for its spread over seeds, which nobody knows.

    Its variance is (b + c - (b - c)^2 / n) / n^2, of b and c images that only one has right.
    """
    first, second = both.answers == both.labels
    apart = second.astype(int) - first
    mean, count = float(apart.mean()), len(apart)
    half = 1.959964 * float(apart.std()) / count**0.5
    return Spread(mean, float("nan"), mean - half, mean + half)


def _differing(a: Run, b: Run) -> dict[str, tuple[Any, Any]]:
    ours, theirs = read_config(a.directory), read_config(b.directory)
    names = [name for name in {**ours, **theirs} if name not in _NO_RECIPE]
    both = {name: (ours.get(name), theirs.get(name)) for name in names}
    return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


_NO_RECIPE = {"began", "made_with", "output", "resume", "quiet", "debug", "keep", "seed"}
_NO_RECIPE |= {"save_steps", "save_minutes", "log_every", "tensorboard", "compilation_cache"}


def say_comparison(found: Comparison, a: str, b: str) -> str:
    """What a reader may conclude, with the figures.

    >>> found = Comparison([0, 1], [(0.99, 0.992), (0.991, 0.9928)],
    ...                    Spread(0.0019, 0.0001, 0.0006, 0.0032), {"epochs": (5, 10)})
    >>> print(say_comparison(found, "runs/a", "runs/b"))
    A  runs/a  99.05 %
    B  runs/b  99.24 %
    they differ in epochs 5, 10
    seed 0: 99.00 %, 99.20 %, +0.20
    seed 1: 99.10 %, 99.28 %, +0.18
    B - A = +0.19 points, 95 % interval +0.06 .. +0.32 over 2 pairs of seeds: B is better
    """
    of_a, of_b = np.mean(found.accuracies, axis=0)
    differing = [f"{name} {one}, {other}" for name, (one, other) in found.differing.items()]
    lines = [
        f"A  {a}  {100 * of_a:.2f} %",
        f"B  {b}  {100 * of_b:.2f} %",
        f"they differ in {'; '.join(differing) or 'no setting but the seed'}",
    ]
    for seed, (first, second) in zip(found.seeds, found.accuracies, strict=False):
        apart = 100 * (second - first)
        lines.append(f"seed {seed}: {100 * first:.2f} %, {100 * second:.2f} %, {apart:+.2f}")
    mean, _, low, high = (100 * value for value in found.difference)
    what = f"over {len(found.seeds)} pairs of seeds" if found.seeds else "over these test images"
    better = "B is better" if mean > 0 else "A is better"
    verdict = better if found.means_something else "it means nothing, 0 lies within"
    if not found.seeds:
        verdict += "; other seeds may differ by more (train both with several)"
    interval = f"95 % interval {low:+.2f} .. {high:+.2f}"
    lines.append(f"B - A = {mean:+.2f} points, {interval} {what}: {verdict}")
    return "\n".join(lines)
