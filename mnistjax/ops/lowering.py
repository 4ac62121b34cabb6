"""Which form of an operation is computed: the fast one on a CPU, or JAX's own everywhere."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import jax
from jax import lax
from jax.export import is_symbolic_dim
from jaxtyping import Array

from mnistjax.errors import UsageError

_as_lax: Any = jax.make_user_context(False)  # part of the key of JAX's caches
OPEN_BATCH = 32
Out = TypeVar("Out")


def as_lax() -> AbstractContextManager[None]:
    """Within it, operations are JAX's own on every platform; compiled functions are compiled anew.

    For what the fast forms do not have: forward-mode derivatives (`jax.jvp`, `jax.jacfwd`,
    `jax.hessian`, `jax.linearize`). A training step takes 2 to 12 times as long.

    >>> import jax.numpy as jnp
    >>> from mnistjax.ops.convolution import conv2d
    >>> x, kernel = jnp.ones((1, 4, 4, 8)), jnp.ones((3, 3, 8, 2))
    >>> with as_lax():
    ...     jax.jvp(lambda x: conv2d(x, kernel), (x,), (x,))[1].shape
    (1, 4, 4, 2)
    """
    return _as_lax(True)


def lax_wanted() -> bool:
    """Whether this is within `as_lax`."""
    return _as_lax.value


def by_platform(*arrays: Array, cpu: Callable[..., Out], default: Callable[..., Out]) -> Out:
    """`cpu(*arrays)` where a CPU computes it, unless within `as_lax`; else `default(*arrays)`."""
    if lax_wanted():
        return default(*arrays)
    return lax.platform_dependent(*arrays, cpu=cpu, default=default)


def batch_of(shape: tuple[Any, ...]) -> int:
    """The number of examples, for rules that go by it; `OPEN_BATCH` where `jax.export` leaves it
    open.

    >>> batch_of((7, 28, 28, 1)), batch_of(jax.export.symbolic_shape("b, 28, 28, 1"))
    (7, 32)
    """
    return OPEN_BATCH if is_symbolic_dim(shape[0]) else shape[0]


@contextmanager
def reverse_mode_only(what: str) -> Iterator[None]:
    """Raise `UsageError` where JAX refuses a forward-mode derivative of what is called within."""
    try:
        yield
    except TypeError as error:
        if "forward-mode" not in str(error):
            raise
        why = "its fast form has reverse-mode derivatives only"
        fix = "derive it within `mj.as_lax()`, where operations are JAX's own"
        raise UsageError(f"forward-mode derivative of {what}", why, fix=fix) from error
