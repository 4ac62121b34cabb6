import random
import shutil

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mnistjax.errors import StorageError
from mnistjax.files import params_sha256
from mnistjax.runs.checkpoint import Checkpoints
from mnistjax.training.state import init_state

STEPS = 1, 2, 3


def make_state(step):
    draw = np.random.default_rng(step)
    params = {
        "conv": jnp.asarray(draw.normal(size=(3, 3, 4, 8)), jnp.float32),
        "dense": jnp.asarray(draw.normal(size=(40, 10)), jnp.bfloat16),
        "bias": jnp.asarray(draw.normal(size=10), jnp.float32),
    }
    return init_state(params, optax.adam(1e-3))._replace(step=jnp.asarray(step, jnp.int32))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved")
    with Checkpoints(directory, keep=3) as saves:
        for step in STEPS:
            saves.save(step, make_state(step), extra={"so_far": [0.5, step, 9]})
    return directory


def damage(directory, draw):
    """Flip a bit, cut a file, or delete one: bits alike likely, files alike likely."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    sizes = [path.stat().st_size for path in files]
    kind = draw.choice(["flip", "cut", "delete"])
    if kind == "flip":
        (path,) = draw.choices(files, weights=sizes)
        data = bytearray(path.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
    elif kind == "cut":
        path = draw.choice([path for path in files if path.stat().st_size])
        path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size)])
    else:
        draw.choice(files).unlink()


def corrupt(saved, directory, cases, *, seed, steps=STEPS[-1:]):
    """Damage `steps` of a copy, `cases` times over; how often what came of it."""
    draw = random.Random(seed)
    like = make_state(0)
    right = {step: params_sha256(make_state(step)) for step in STEPS}
    found = {"newest": 0, "fell back": 0, "refused": 0, "wrong": 0}
    shutil.copytree(saved, directory)
    for _ in range(cases):
        for step in steps:
            damage(directory / str(step), draw)
        try:
            got = Checkpoints(directory).newest(like=lambda _: like)
        except StorageError:
            found["refused"] += 1
        else:
            assert got
            same = params_sha256(got.state) == right[got.step]
            same = same and got.extra == {"so_far": [0.5, got.step, 9]}
            came = "newest" if got.step == STEPS[-1] else "fell back"
            found[came if same else "wrong"] += 1
        for step in steps:
            shutil.rmtree(directory / str(step))
            shutil.copytree(saved / str(step), directory / str(step))
    print(found)
    return found


def test_a_damaged_checkpoint_is_never_taken_for_a_whole_one(saved, tmp_path, capfd):
    found = corrupt(saved, tmp_path / "copy", 60, seed=0)
    assert found["wrong"] == found["refused"] == 0
    assert found["fell back"] > 40
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == found["fell back"]  # one warning each, and no traceback
    assert all("3 is damaged (" in line and "going on from step 2" in line for line in lines)


def test_all_damaged_is_refused(saved, tmp_path):
    found = corrupt(saved, tmp_path / "copy", 10, seed=1, steps=STEPS)
    assert found["wrong"] == 0 and found["refused"] > 0


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 6))
def test_a_thousand_damaged_checkpoints(saved, tmp_path, seed):
    assert corrupt(saved, tmp_path / "copy", 1000, seed=seed)["wrong"] == 0
