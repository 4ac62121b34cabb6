import math
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from mnistjax.errors import StorageError
from mnistjax.files import params_sha256
from mnistjax.runs import checkpoint, snapshot
from mnistjax.runs.checkpoint import Checkpoints
from mnistjax.runs.snapshot import DIGESTS, UNFINISHED
from mnistjax.training.state import init_state


def make_state(value=1.0):
    params = {
        "a": {"w": jnp.full((3, 4), value, jnp.float32)},
        "b": jnp.full(2, value, jnp.bfloat16),
    }
    return init_state(params, optax.adam(1e-3))


def three_steps(directory):
    """Steps 1, 2, 3 saved in `directory`, opened anew."""
    with Checkpoints(directory, keep=3) as saves:
        for step in (1, 2, 3):
            saves.save(step, make_state(step), extra={})
    return Checkpoints(directory, keep=3)


def like(_=0):
    return make_state()


def damage(directory, step):
    """Flip one bit of the array data."""
    path = max((directory / str(step)).rglob("d/*"), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_every_bit_comes_back(tmp_path):
    state = make_state(jnp.pi)
    with Checkpoints(tmp_path) as saves:
        saves.save(3, state, extra={"so_far": [0.1, 2, 3]})
    with Checkpoints(tmp_path) as saves:
        saved = saves.restore(3, like=state)
    assert params_sha256(saved.state) == params_sha256(state)
    assert saved.extra == {"so_far": [0.1, 2, 3]}
    assert jax.tree.structure(saved.state) == jax.tree.structure(state)


def test_newest_and_best_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep=2) as saves:
        for step, score in enumerate([-0.9, -0.2, -0.5, -0.7, -0.6]):
            saves.save(step, make_state(step), extra={}, score=score)
        assert saves.steps == [1, 3, 4]


def test_of_equal_scores_the_later_is_kept(tmp_path):
    with Checkpoints(tmp_path) as saves:
        for step, score in enumerate([-0.2, -0.2, -0.5, -0.5]):
            saves.save(step, make_state(step), extra={}, score=score)
        assert saves.steps == [1, 2, 3]


def test_a_checkpoint_without_a_score_is_never_the_best(tmp_path):
    with Checkpoints(tmp_path) as saves:
        saves.save(0, make_state(0), extra={}, score=math.nan)
        saves.save(1, make_state(1), extra={}, score=-0.1)
        saves.save(2, make_state(2), extra={})
        saves.save(3, make_state(3), extra={}, score=-0.5)
        assert saves.steps == [1, 2, 3]


def test_a_step_saved_again_is_replaced(tmp_path):
    with Checkpoints(tmp_path) as saves:
        saves.save(1, make_state(1.0), extra={})
        saves.save(1, make_state(2.0), extra={})
        state = saves.restore(1, like=make_state()).state
    assert params_sha256(state) == params_sha256(make_state(2.0))


def test_a_missing_step_is_a_storage_error(tmp_path):
    with Checkpoints(tmp_path) as saves, pytest.raises(StorageError, match="Fix:"):
        saves.restore(7, like=make_state())


def test_a_relative_directory_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Checkpoints(Path("here")) as saves:
        saves.save(1, make_state(), extra={})
    assert Checkpoints(tmp_path / "here").steps == [1]


def test_at_least_two_are_kept(tmp_path):
    with pytest.raises(ValueError, match="keep=1"):
        Checkpoints(tmp_path, keep=1)


def test_a_damaged_newest_is_passed_over_with_one_warning(tmp_path, capsys):
    saves = three_steps(tmp_path)
    damage(tmp_path, 3)
    saved = saves.newest(like=like)
    assert saved and saved.step == 2
    assert params_sha256(saved.state) == params_sha256(make_state(2))
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"{tmp_path / '3'} is damaged" in err and "step 2" in err
    assert saves.steps == [1, 2]
    with pytest.raises(StorageError, match=f"{tmp_path / '3'}.*Fix: "):
        saves.restore(3, like=like())


def test_a_missing_file_is_damage(tmp_path):
    saves = three_steps(tmp_path)
    (tmp_path / "3" / "state" / "_METADATA").unlink()
    with pytest.raises(StorageError, match="state/_METADATA is not what was saved"):
        saves.restore(3, like=like())


def test_arrays_are_compared_with_what_training_had(tmp_path, monkeypatch):
    saves = three_steps(tmp_path)
    monkeypatch.setattr(snapshot.ocp, "load", lambda *_: make_state(7)._asdict())
    with pytest.raises(StorageError, match="params/a/w is not what was saved"):
        saves.restore(3, like=like())


def test_without_a_state_like_it_the_same_is_compared(tmp_path, monkeypatch):
    saves = three_steps(tmp_path)
    params, model_state = saves.model(3)
    assert params_sha256(params) == params_sha256(make_state(3).params) and model_state == ()
    with monkeypatch.context() as patch:
        patch.setattr(snapshot.ocp, "load", lambda *_: make_state(7)._asdict())
        with pytest.raises(StorageError, match="params/a/w is not what was saved"):
            saves.model(3)
    (tmp_path / "3" / "state" / "_METADATA").unlink()
    with pytest.raises(StorageError, match="state/_METADATA is not what was saved"):
        saves.model(3)


def test_a_damaged_one_does_not_count_as_kept(tmp_path):
    three_steps(tmp_path)
    damage(tmp_path, 3)
    with Checkpoints(tmp_path, keep=2) as saves:
        saves.newest(like=like)
        saves.save(4, make_state(4), extra={})
        assert saves.steps == [2, 4]


def test_all_damaged_is_an_error_and_nothing_is_touched(tmp_path):
    saves = three_steps(tmp_path)
    for step in (1, 2, 3):
        damage(tmp_path, step)
    before = contents(tmp_path)
    with pytest.raises(StorageError, match=f"{tmp_path / '3'}"):
        saves.newest(like=like)
    assert contents(tmp_path) == before


def test_without_its_record_a_checkpoint_is_damaged(tmp_path):
    with Checkpoints(tmp_path) as saves:
        saves.save(1, make_state(), extra={})
    (tmp_path / "1" / DIGESTS).unlink()
    with pytest.raises(StorageError, match=f"{tmp_path / '1'}"):  # and no start at step 0
        Checkpoints(tmp_path).newest(like=like)


def test_a_damaged_table_of_digests_is_damage(tmp_path):
    with Checkpoints(tmp_path) as saves:
        saves.save(1, make_state(), extra={"so_far": [0.5, 2, 3]})
    path = tmp_path / "1" / DIGESTS
    path.write_text(path.read_text().replace("[0.5, 2, 3]", "[0.5, 2, 4]"))
    with pytest.raises(StorageError, match="table of digests is damaged"):
        Checkpoints(tmp_path).newest(like=like)


def test_a_half_deleted_checkpoint_is_none(tmp_path, monkeypatch):
    def stop(path, **_):
        min(path.rglob("manifest.ocdbt")).unlink()
        raise KeyboardInterrupt

    with Checkpoints(tmp_path) as saves:
        saves.save(1, make_state(1), extra={})
        saves.save(2, make_state(2), extra={})
        monkeypatch.setattr(checkpoint.shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            saves.save(3, make_state(3), extra={})
        monkeypatch.undo()
    assert Checkpoints(tmp_path).steps == [2, 3]


def test_a_newer_schema_is_refused_not_passed_over(tmp_path, monkeypatch):
    three_steps(tmp_path)
    monkeypatch.setattr(snapshot, "SCHEMA", snapshot.SCHEMA + 1)
    with Checkpoints(tmp_path, keep=3) as saves:
        saves.save(4, make_state(4), extra={})
    monkeypatch.undo()
    before = contents(tmp_path)
    with pytest.raises(StorageError, match="newer mnistjax.*Fix: update"):
        Checkpoints(tmp_path).newest(like=like)
    assert contents(tmp_path) == before


def test_strays_are_no_checkpoints(tmp_path, capsys):
    three_steps(tmp_path)
    for name in ("7", "007", "abc", f"9{UNFINISHED}"):
        (tmp_path / name).mkdir()
    (tmp_path / "007" / "file").touch()
    with Checkpoints(tmp_path) as saves:
        saved = saves.newest(like=like)
        assert saved and saved.step == 3
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and f"{tmp_path / '7'} is no checkpoint" in err
        assert f"{tmp_path / 'abc'} is no checkpoint" in err
        assert f"{tmp_path / '007'} is no checkpoint" in err
        saves.save(4, make_state(4), extra={})
        assert saves.steps == [3, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["007", "3", "4", "7", "abc"]


def test_a_copy_under_another_number_is_no_checkpoint(tmp_path, capsys):
    saves = three_steps(tmp_path)
    shutil.copytree(tmp_path / "2", tmp_path / "9")
    saved = saves.newest(like=like)
    assert saved and saved.step == 3
    assert "it is a copy of step 2" in capsys.readouterr().err


def test_a_reader_removes_nothing(tmp_path):
    three_steps(tmp_path)
    (tmp_path / f"4{UNFINISHED}").mkdir()
    Checkpoints(tmp_path).restore(3, like=like())
    assert (tmp_path / f"4{UNFINISHED}").is_dir()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: p | {"b": jnp.zeros(2, jnp.float32)}, r"params/b is bfloat16\[2\].*float32"),
        (lambda p: p | {"b": jnp.zeros(3, jnp.bfloat16)}, r"params/b is bfloat16\[2\].*\[3\]"),
        (lambda p: {"a": p["a"], "c": p["b"]}, "params/b.* where this run has params/c"),
    ],
    ids=["dtype", "shape", "tree"],
)
def test_the_state_of_another_model_is_refused_not_passed_over(tmp_path, change, says):
    saves = three_steps(tmp_path)
    other = init_state(change(make_state().params), optax.adam(1e-3))
    with pytest.raises(StorageError, match=says):
        saves.newest(like=lambda _: other)


def test_a_state_with_a_longer_tail_is_refused(tmp_path):
    saves = three_steps(tmp_path)
    state: Any = make_state()
    longer = state._replace(opt_state=(*state.opt_state, jnp.zeros(2)))
    with pytest.raises(StorageError, match="8 arrays, where this run has 9"):
        saves.restore(3, like=longer)
