"""Windows of steps on the clock: imported by every cell, so standard library only."""

import json
import os
import resource
import time
from collections.abc import Callable
from statistics import median
from typing import Any


def on_gpu() -> bool:
    """Whether cells compute on an NVIDIA GPU: peers other than JAX have to be told."""
    return os.environ.get("JAX_PLATFORMS") == "cuda"


def windows(
    run: Callable[[int], object],
    *,
    count: int = 5,
    seconds: float = 0.6,
    warm: tuple[int, ...] = (1, 3, 5),
) -> list[float]:
    """Seconds per step in each of `count` windows of at least `seconds`.

    `run(n)` does n steps and returns when the device has finished them. Calls of `warm` steps warm
    up, of one step where a window holds no more; the last of them sets how many fill a window.
    """
    taken = 0.0
    for most in warm:
        steps = most if most * taken <= seconds else 1
        started = time.perf_counter()
        run(steps)
        taken = (time.perf_counter() - started) / steps
    steps = max(1, round(seconds / taken + 0.5))
    result = []
    for _ in range(count):
        started = time.perf_counter()
        run(steps)
        result.append((time.perf_counter() - started) / steps)
    return result


def whole_jobs(
    job: Callable[[], None], *, part: Callable[[], None] | None = None, count: int = 1
) -> dict[str, Any]:
    """Whole jobs: seconds of each, and of what only the first one pays (tracing, compiling).

    `part` of the job, by default all of it, is done twice; the first time less the second is
    `first_seconds`. It has to compile all that the job needs.
    """
    first, second = _clock(part or job), _clock(part or job)
    taken = [] if part else [second]
    while len(taken) < count:
        taken.append(_clock(job))
    compiling = max(0.0, first - second)
    return {
        "first_seconds": compiling,
        "steady_seconds": median(taken),
        "job_seconds": median(taken) + compiling,
        "windows": taken,
    }


def until(
    targets: list[float],
    train_to: Callable[[int, int], None],
    accuracy: Callable[[], float],
    *,
    steps: int,
    every: int,
) -> dict[str, Any]:
    """Train in portions of `every` steps; the seconds at which each target was first seen.

    `train_to(first, last)` does steps first..last-1 and returns when the device has finished them;
    `accuracy()` is off the clock. `None` stands for a target never seen.
    """
    seconds, best, done = 0.0, 0.0, 0
    reached: list[float | None] = [None] * len(targets)
    while done < steps and None in reached:
        last = min(done + every, steps)
        started = time.perf_counter()
        train_to(done, last)
        seconds += time.perf_counter() - started
        done, best = last, max(best, accuracy())
        reached = [
            seconds if before is None and best >= target else before
            for before, target in zip(reached, targets, strict=True)
        ]
    return {"reached": reached, "train_seconds": seconds, "steps": done, "best": best}


def _clock(job: Callable[[], None]) -> float:
    started = time.perf_counter()
    job()
    return time.perf_counter() - started


def say_facts(**facts: Any) -> None:
    """Print the cell's facts as the last line, with the peak of resident memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(facts | {"peak_mib": round(peak)}), flush=True)
