"""What is compiled once is found by the next run, unless it may not, or cannot."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from mnistjax import programs
from mnistjax.programs import keep_programs

NAMES = ["dir", "max_size"]
SETTINGS = [f"jax_compilation_cache_{name}" for name in NAMES] + [
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
]
config: Any = jax.config


@pytest.fixture(autouse=True)
def as_in_a_new_process():
    """No cache is set; what the suite has is put back."""
    before = {name: getattr(config, name) for name in SETTINGS}
    config.update("jax_compilation_cache_dir", None)
    config.update("jax_persistent_cache_min_compile_time_secs", 1.0)  # JAX's default
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        config.update(name, value)
    compilation_cache.reset_cache()


def compiled_anew() -> tuple[float, int]:
    """What a program of ours gives, and how many of it were found."""
    found: list[str] = []

    def listen(event: str, **_: str | int) -> None:
        found.append(event)

    jax.monitoring.register_event_listener(listen)
    jax.clear_caches()
    compilation_cache.reset_cache()
    try:
        value = float(jax.jit(lambda x: (x * 3 + 1).sum())(jnp.arange(7.0)))
    finally:
        jax.monitoring.clear_event_listeners()
    return value, found.count("/jax/compilation_cache/cache_hits")


def test_the_next_run_finds_them(own_cache):
    keep_programs()
    value, found = compiled_anew()
    assert found == 0 and value == 70
    again, found = compiled_anew()
    assert found > 0 and again == value
    assert all(path.is_relative_to(own_cache / "programs") for path in own_cache.rglob("*-cache"))
    assert [*own_cache.rglob("*-cache")]


@pytest.mark.parametrize("damage", [lambda old: old[: len(old) // 2], lambda old: b""])
def test_a_damaged_one_is_told_and_compiled_anew(own_cache, damage):
    keep_programs()
    value, _ = compiled_anew()
    for path in own_cache.rglob("*-cache"):
        path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match="Error reading persistent compilation cache"):
        assert compiled_anew() == (value, 0)


def test_they_take_no_more_room_than_allowed(own_cache, monkeypatch):
    monkeypatch.setattr(programs, "LIMIT_BYTES", 20_000)
    keep_programs()
    for size in range(2, 12):
        jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x))(jnp.ones((size, size)))
    kept = [path.stat().st_size for path in own_cache.rglob("*-cache")]
    assert 0 < sum(kept) <= 20_000


def test_unless_they_may_not(own_cache):
    keep_programs(False)
    assert compiled_anew()[1] == compiled_anew()[1] == 0
    assert not [*own_cache.rglob("*-cache")]


def test_a_directory_of_the_users_stays(tmp_path):
    config.update("jax_compilation_cache_dir", str(tmp_path))
    keep_programs()
    assert config.jax_compilation_cache_dir == str(tmp_path)


def test_what_cannot_be_written_is_told_once_and_all_goes_on(own_cache, capsys):
    (own_cache / "programs").write_text("in the way")
    keep_programs()
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "programs are compiled in every run" in told
    assert config.jax_compilation_cache_dir is None


def test_a_full_disk_is_left_alone(own_cache, capsys, monkeypatch):
    monkeypatch.setattr(programs, "LIMIT_BYTES", 2**60)
    keep_programs()
    assert "no room left" in capsys.readouterr().err
    assert config.jax_compilation_cache_dir is None
