"""What several processes of one program tell each other (`mnistjax.joining`).

Every process runs the same code on its own devices; process 0 alone has the run directory, and the
others hear from it what it found there. JAX's runtime carries all of it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mnistjax.errors import UsageError, as_peer_lost


def several() -> bool:
    """Whether this process is one of several; only then JAX looks for devices."""
    import jax

    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_leader() -> bool:
    """Whether this process has the run directory, the log and the terminal: process 0, or alone."""
    import jax

    return not jax.distributed.is_initialized() or jax.process_index() == 0


def share(value: Any = None) -> Any:
    """What process 0 gives, JSON, in every process; alone, `value` itself."""
    if not several():
        return value
    from jax.experimental.multihost_utils import broadcast_one_to_all

    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    with as_peer_lost():
        size = int(broadcast_one_to_all(np.int32(len(data))))
        mine = data if is_leader() else np.zeros(size, np.uint8)
        return json.loads(np.asarray(broadcast_one_to_all(mine)).tobytes())


def share_arrays(tree: Any) -> Any:
    """The arrays of process 0 in every process, on the host; alone, as they are."""
    if not several():
        return tree
    from jax.experimental.multihost_utils import broadcast_one_to_all

    with as_peer_lost():
        return broadcast_one_to_all(tree)


def over_processes(fn: Callable[[np.ndarray], Any], rows: np.ndarray) -> np.ndarray:
    """`fn(rows)`, in every process, each of which has computed its share; alone, just that.

    For a function of each row by itself, [n, ...] to [n, ...], as `Classifier.logits` is. All call
    it with the same `rows`, as many as there are. Raises `PeerLost` where one of them is gone.

    >>> over_processes(lambda rows: 2 * rows, np.arange(3)).tolist()
    [0, 2, 4]
    """
    if not several() or not len(rows):
        return np.asarray(fn(rows))
    import jax
    from jax.experimental.multihost_utils import process_allgather

    share = -(-len(rows) // jax.process_count())
    places = np.arange(share) + jax.process_index() * share
    mine = np.ascontiguousarray(fn(rows[places % len(rows)]))  # the last ones' are filled up
    with as_peer_lost():  # as bytes: JAX would make 32 bits of 64
        of_all = np.asarray(process_allgather(mine.reshape(share, -1).view(np.uint8)))
    return of_all.view(mine.dtype).reshape(-1, *mine.shape[1:])[: len(rows)]


def refuse_unless_same(facts: Mapping[str, Any]) -> None:
    """Raise `UsageError`, in every process, where one has other `facts`: by number and name."""
    if not several():
        return
    from jax.experimental.multihost_utils import process_allgather

    text = [json.dumps(value, sort_keys=True, default=str) for value in facts.values()]
    digests = [np.frombuffer(hashlib.sha256(of.encode()).digest(), np.uint8) for of in text]
    with as_peer_lost():
        of_all = np.asarray(process_allgather(np.stack(digests)))
    for process, theirs in enumerate(of_all):
        for name, own, first in zip(facts, theirs, of_all[0], strict=True):
            if (own != first).any():
                fix = "start every process with the same arguments, data and weights"
                raise UsageError(f"process {process}", f"has another {name} than 0", fix=fix)


class Agreement:
    """The largest of what all processes say, one question late: no process waits for an answer.

    >>> agree = Agreement()
    >>> agree(2), agree.now(0)
    (2, 0)
    """

    def __init__(self) -> None:
        self._several, self._late = several(), None

    def __call__(self, wish: int) -> int:
        """What was the largest at the question before; alone, `wish`."""
        if not self._several:
            return wish
        late, self._late = self._late, self._largest(wish)
        with as_peer_lost():
            return 0 if late is None else int(late)

    def now(self, wish: int) -> int:
        """The largest, waited for."""
        if not self._several:
            return wish
        with as_peer_lost():
            return int(self._largest(wish))

    def _largest(self, wish: int) -> Any:
        import jax
        import jax.numpy as jnp
        from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

        mesh = Mesh(np.array(jax.devices()), ("all",), axis_types=(AxisType.Auto,))
        rows, one = NamedSharding(mesh, PartitionSpec("all")), NamedSharding(mesh, PartitionSpec())
        wishes = np.full(jax.local_device_count(), wish, np.int32)
        if not hasattr(self, "_max"):
            self._max = jax.jit(jnp.max, out_shardings=one)
        return self._max(jax.make_array_from_process_local_data(rows, wishes))
