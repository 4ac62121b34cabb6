import json
import shutil

import pytest
from kill_loop import STEPS, train

from mnistjax.errors import StorageError
from mnistjax.runs.checkpoint import Checkpoints
from mnistjax.runs.log import read_rows
from mnistjax.runs.settings import Setting, check_same_run, made_with


def damage(run, step):
    """Flip one bit of the array data."""
    places = (run / "checkpoints" / str(step)).rglob("d/*")
    path = max(places, key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def contents(run):
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = tmp_path_factory.mktemp("whole")
    return run, train(run, epochs=6)


def without_times(run):
    rows = read_rows(run / "metrics.jsonl")
    return [{k: v for k, v in row.items() if "second" not in k} for row in rows]


def test_extended_equals_trained_at_once(whole, tmp_path):
    run, digest = whole
    train(tmp_path, epochs=4)
    assert train(tmp_path, epochs=6) == digest
    assert without_times(tmp_path) == without_times(run)


def test_a_run_goes_on_from_before_the_damage_to_the_same_bits(whole, tmp_path, capsys):
    train(tmp_path, epochs=4)
    damage(tmp_path, 4 * STEPS)
    assert train(tmp_path, epochs=6) == whole[1]
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"going on from step {3 * STEPS}" in err
    assert without_times(tmp_path) == without_times(whole[0])


def test_damage_that_cannot_be_passed_over_is_refused(tmp_path):
    train(tmp_path, epochs=3)
    newest = 3 * STEPS
    rows = read_rows(tmp_path / "metrics.jsonl")
    best = max((row for row in rows if row["kind"] == "epoch"), key=lambda row: -row["val_loss"])
    damage(tmp_path, best["step"])
    if best["step"] != newest:
        with pytest.raises(StorageError, match=f"checkpoints/{best['step']}"):  # nothing to score
            train(tmp_path, epochs=3)
    for path in (tmp_path / "checkpoints").iterdir():
        if path.name.isdecimal() and path.name != str(best["step"]):
            damage(tmp_path, path.name)
    before = contents(tmp_path)
    with pytest.raises(StorageError, match=f"checkpoints/{newest}"):
        train(tmp_path, epochs=4)
    assert contents(tmp_path) == before
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(StorageError, match="no checkpoint left, after 3 epochs"):
        train(tmp_path, epochs=4)


def test_the_row_of_an_epoch_is_written_before_its_checkpoint(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, epochs=2)
    kinds = [row["kind"] for row in read_rows(tmp_path / "metrics.jsonl")]
    assert kinds == [*["step"] * STEPS, "epoch"]


SEED = {"seed": Setting(0)}


def write_config(run, settings, **changed):
    (run / "config.json").write_text(json.dumps(settings | {"made_with": made_with() | changed}))


def test_other_versions_and_threads_warn(tmp_path, capsys):
    write_config(tmp_path, {"seed": 0}, jax="0.9.0", threads=64)
    check_same_run(tmp_path, SEED)
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "not bit-exact" in err
    assert "(was 0.9.0)" in err and "(was 64)" in err and "jaxlib" not in err


def test_the_same_environment_does_not(tmp_path, capsys):
    write_config(tmp_path, {"seed": 0})
    check_same_run(tmp_path, SEED)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", ["", "{", "[]", "7"])
def test_a_damaged_configuration_is_a_storage_error(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(StorageError, match=r"config\.json.*Fix: "):
        check_same_run(tmp_path, SEED)


def test_threads_are_those_of_nproc(monkeypatch):
    monkeypatch.setenv("NPROC", "7")
    assert made_with()["threads"] == 7
    monkeypatch.setenv("NPROC", "")
    assert made_with()["threads"] >= 1
