"""Checkpoints by Orbax (v1 API), wrapped here alone: 1.0 renames it, and digests will live here."""

from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
from orbax.checkpoint import v1 as ocp

from mnistjax.errors import StorageError
from mnistjax.training.state import TrainState

_policies = ocp.training.preservation_policies


class Saved(NamedTuple):
    """A restored checkpoint: the state and the plain JSON saved beside it."""

    state: TrainState
    extra: dict[str, Any]


def abstract(state: TrainState) -> TrainState:
    """Shapes, dtypes and devices of `state` without its data: outlives the donated arrays."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state
    )


class Checkpoints:
    """The checkpoints of one run: the newest `keep` and the best by `score`.

    A context manager; leaving it waits for the disk. Raises `StorageError` for what cannot be
    written or read.

    >>> import tempfile, optax, jax.numpy as jnp
    >>> from mnistjax.training.state import init_state
    >>> state = init_state({"w": jnp.ones(2)}, optax.sgd(0.1))
    >>> with tempfile.TemporaryDirectory() as directory, Checkpoints(Path(directory)) as saves:
    ...     saves.save(0, state, score=0.9, extra={"note": "first"})
    ...     saves.restore(0, like=abstract(state)).extra
    {'note': 'first'}
    """

    def __init__(self, directory: Path, *, keep: int = 2) -> None:
        policy: Any = _policies.AnyPreservationPolicy(
            [
                _policies.LatestN(keep),
                _policies.BestN(
                    get_metric_fn=lambda metrics: metrics["score"],
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        self._directory = directory
        with _storage_errors(directory):
            self._checkpointer = ocp.training.Checkpointer(
                str(directory.absolute()), preservation_policy=policy, cleanup_tmp_directories=True
            )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        with _storage_errors(self._directory):
            self._checkpointer.close()

    @property
    def steps(self) -> list[int]:
        """Steps that can be restored, oldest first."""
        return sorted(checkpoint.step for checkpoint in self._checkpointer.checkpoints)

    def save(
        self, step: int, state: TrainState, *, extra: dict[str, Any], score: float | None = None
    ) -> None:
        """Write `state` at `step` and wait for it; a state with a higher `score` is kept longer.

        Equal scores: the later is kept. An existing checkpoint of the step is replaced.
        """
        metrics: Any = None if score is None else {"score": score}
        with _storage_errors(self._directory):
            saved = self._checkpointer.save(
                step,
                state,
                metrics=metrics,
                custom_metadata=extra,
                force=True,
                overwrite=step in self.steps,
            )
        if not saved:
            raise StorageError(f"{self._directory}", f"step {step} was not saved", fix=_FIX)

    def restore(self, step: int, *, like: TrainState) -> Saved:
        """The checkpoint of `step`, laid out on the devices as `like` (from `abstract`) says."""
        with _storage_errors(self._directory):
            state = self._checkpointer.load(step, like)
            extra = self._checkpointer.metadata(step).custom_metadata
        return Saved(state, cast(dict[str, Any], extra or {}))


_FIX = "check that the disk has room and the directory may be written, or pass another --output"


class _storage_errors:
    """Whatever Orbax raises (ValueError, KeyError, OSError, ...) becomes a `StorageError`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, StorageError):
            why = f"{type(error).__name__}: {error}"
            raise StorageError(str(self._directory), why[:300], fix=_FIX) from error
