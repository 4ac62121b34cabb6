"""Compile before the first step: with options that suit the device, and a clock on it."""

import time
from typing import Any

import jax

from mnistjax.platforms import in_xla_flags


def compiler_options() -> dict[str, Any]:
    """What to pass to `lowered.compile(compiler_options=...)`.

    On a CPU LLVM optimises at level 1: the small CNN's step then compiles in 2.7 s instead of 3.3 s
    and takes 9.3 instead of 9.1 ms, VGG16's forward pass in 1.6 s instead of 2.1 s at the same
    speed. A level in XLA_FLAGS stays. Options stay outside `jax.jit`, which takes them only where
    it is outermost.
    """
    level = "xla_backend_optimization_level"
    return {level: 1} if jax.default_backend() == "cpu" and not in_xla_flags(level) else {}


def compile_for(fn: jax.stages.Wrapped, *arguments: Any) -> tuple[Any, float]:
    """Compile a jitted `fn` for the shapes of `arguments`; return it and the seconds it took.

    >>> import jax.numpy as jnp
    >>> double, seconds = compile_for(jax.jit(lambda x: 2 * x), jnp.ones(3))
    >>> double(jnp.ones(3)).tolist(), seconds > 0
    ([2.0, 2.0, 2.0], True)
    """
    config: Any = jax.config
    if config.jax_disable_jit:  # to be stepped through in a debugger
        return fn, 0.0
    started = time.perf_counter()
    compiled = fn.lower(*arguments).compile(compiler_options=compiler_options())
    return compiled, time.perf_counter() - started
