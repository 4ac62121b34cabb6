"""A network of the field in JAX with the problem's parameters: as it is, or with our operations."""

import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.harness.networks import filled, network
from mnistjax.models.functional import Functional, functional_with_state
from mnistjax.ops import speed_up


def start(problem: Mapping[str, np.ndarray], name: str, way: str) -> Functional:
    model = nnx.eval_shape(lambda: network(name))
    arrays = filled(nnx.to_pure_dict(nnx.state(model)), problem)
    nnx.update(model, jax.tree.map(jnp.asarray, arrays))
    if way == "ours":
        speed_up(model)
    return functional_with_state(model)


def compiled(fn: jax.stages.Wrapped, *arguments: Any) -> tuple[jax.stages.Compiled, float]:
    """As JAX compiles by itself, whoever's operations: the one difference is theirs."""
    started = time.perf_counter()
    program = fn.lower(*arguments).compile()
    return program, time.perf_counter() - started
