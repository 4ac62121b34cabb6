import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest

from mnistjax.data.batches import Batch
from mnistjax.errors import UsageError
from mnistjax.training.batch_size import check_divides
from mnistjax.training.freeze import freeze_mask
from mnistjax.training.micro_batch import micro_batch_size
from mnistjax.training.parallel import data_mesh
from mnistjax.training.state import init_state
from mnistjax.training.step import make_step, make_train_step

ROOT = Path(__file__).parent.parent


def on_devices(count, *command, seconds=300):
    """Run Python where the CPU counts as `count` devices.

    XLA's threads wait for each other in a sum over devices: with fewer than devices, they wait for
    ever. NPROC is how many it makes, whatever the machine has.
    """
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"
    devices = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "NPROC": str(2 * count)}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=os.environ | devices,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def test_eight_devices_do_what_one_does():
    files = "tests/eight_devices.py", "tests/typed_devices.py"
    done = on_devices(8, "pytest", *files, "-x", "-n", "0", seconds=900)
    assert done.returncode == 0, done.stdout[-5000:]


def test_a_mesh_of_one_device_is_the_same_program():
    tx = optax.adam(1e-3)
    batch = Batch(jnp.zeros((4, 2, 2, 1), jnp.uint8), jnp.zeros(4, jnp.int32), jnp.ones(4, bool))
    state = init_state({"w": jnp.ones((4, 3))}, tx)

    def text(**options):
        def apply_fn(params, images):
            return images.reshape(len(images), -1) @ params["w"]

        step = make_train_step(apply_fn=apply_fn, tx=tx, micro_batch=2, **options)
        return step.lower(state, batch).as_text()

    assert text() == text(mesh=data_mesh(jax.local_devices()[:1]))


def test_a_batch_smaller_than_the_devices_names_the_one_size_that_divides():
    check_divides(16, 8)
    with pytest.raises(UsageError, match="--batch-size 3: .* 8 devices. Fix: pass 8$"):
        check_divides(3, 8, what="--batch-size")


def test_portions_are_those_of_the_platform_compiled_for():
    assert micro_batch_size((128, 28, 28, 1), "cpu") == 24
    assert micro_batch_size((128, 28, 28, 1), "tpu") is None
    assert micro_batch_size((128, 28, 28, 1), "cpu", parameters=225_034) == 24
    assert micro_batch_size((128, 28, 28, 1), "cpu", parameters=14_714_688) == 293


@pytest.mark.parametrize(
    ("trainable", "platform", "portions"),
    [("w", "cpu", [6]), ("*", "cpu", [4]), ("w", "tpu", [])],
)
def test_a_step_has_the_portions_of_what_trains_and_of_its_platform(trainable, platform, portions):
    params = {"w": jnp.zeros((28 * 28, 10)), "more": jnp.zeros(2**21)}
    mask = freeze_mask(params, trainable=[trainable])
    tx = optax.selective_transform(optax.sgd(0.1), freeze_mask=mask)
    step = make_step(
        apply_fn=lambda params, images: images.reshape(len(images), -1) @ params["w"],
        tx=tx,
        frozen=mask,
        platform=platform,
    )
    images = jnp.zeros((128, 28, 28, 1), jnp.uint8)
    batch = Batch(images, jnp.zeros(128, jnp.int32), jnp.ones(128, bool))
    equations = jax.make_jaxpr(step)(init_state(params, tx), batch).eqns
    scans = [equation.params for equation in equations if equation.primitive is jax.lax.scan_p]
    assert [scan["length"] for scan in scans] == portions
