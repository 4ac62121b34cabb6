"""The kinds of pooling, for the operations and for flags: nothing here imports jax."""

from typing import Literal, get_args

Pool = Literal["max", "avg"]
POOLS: tuple[Pool, ...] = get_args(Pool)
