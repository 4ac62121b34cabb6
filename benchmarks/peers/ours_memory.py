"""What the compiler says of a program's memory."""

import jax


def temp_mib(compiled: jax.stages.Compiled) -> float:
    """MiB that it needs besides arguments and results."""
    memory = compiled.memory_analysis()
    assert memory is not None, "this device's compiler does not tell"
    return memory.temp_size_in_bytes / 2**20
