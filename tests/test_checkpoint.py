import jax
import jax.numpy as jnp
import optax
import pytest

from mnistjax.errors import StorageError
from mnistjax.report.files import params_sha256
from mnistjax.training.checkpoint import Checkpoints, abstract
from mnistjax.training.state import init_state


def make_state(value=1.0):
    params = {"a": {"w": jnp.full((3, 4), value)}, "b": jnp.full(2, value, jnp.bfloat16)}
    return init_state(params, optax.adam(1e-3))


def test_every_bit_comes_back(tmp_path):
    state = make_state(jnp.pi)
    with Checkpoints(tmp_path) as saves:
        saves.save(3, state, extra={"so_far": [0.1, 2, 3]})
    with Checkpoints(tmp_path) as saves:
        saved = saves.restore(3, like=abstract(state))
    assert params_sha256(saved.state) == params_sha256(state)
    assert saved.extra == {"so_far": [0.1, 2, 3]}
    assert jax.tree.structure(saved.state) == jax.tree.structure(state)


def test_newest_and_best_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep=2) as saves:
        for step, score in enumerate([-0.9, -0.2, -0.5, -0.7, -0.6]):
            saves.save(step, make_state(step), extra={}, score=score)
        assert saves.steps == [1, 3, 4]


def test_of_equal_scores_the_later_is_kept(tmp_path):
    with Checkpoints(tmp_path, keep=1) as saves:
        for step, score in enumerate([-0.2, -0.2, -0.5]):
            saves.save(step, make_state(step), extra={}, score=score)
        assert saves.steps == [1, 2]


def test_a_checkpoint_without_score_is_never_the_best(tmp_path):
    with Checkpoints(tmp_path, keep=1) as saves:
        saves.save(0, make_state(0), extra={}, score=-0.1)
        saves.save(1, make_state(1), extra={})
        saves.save(2, make_state(2), extra={}, score=-0.5)
        assert saves.steps == [0, 2]


def test_a_step_saved_again_is_replaced(tmp_path):
    with Checkpoints(tmp_path) as saves:
        saves.save(1, make_state(1.0), extra={})
        saves.save(1, make_state(2.0), extra={})
        state = saves.restore(1, like=abstract(make_state())).state
    assert params_sha256(state) == params_sha256(make_state(2.0))


def test_a_missing_step_is_a_storage_error(tmp_path):
    with Checkpoints(tmp_path) as saves, pytest.raises(StorageError, match="Fix:"):
        saves.restore(7, like=abstract(make_state()))


def test_a_directory_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="Fix:"), Checkpoints(tmp_path / "file" / "x"):
        pass
