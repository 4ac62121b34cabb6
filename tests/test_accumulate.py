"""A batch in portions: the update of the whole one, in the memory of a part."""

from dataclasses import replace

import jax
import numpy as np
import optax
import pytest
from stateful_models import nnx_model, split

from mnistjax.data.batches import Batch
from mnistjax.data.dataset import Split
from mnistjax.errors import UsageError
from mnistjax.runs.compiled_step import rows_at_once
from mnistjax.runs.options import RunOptions
from mnistjax.runs.plan import Plan, Stage
from mnistjax.runs.train_run import train_run
from mnistjax.training.compile import compile_for
from mnistjax.training.micro_batch import micro_batch_size
from mnistjax.training.step import make_train_step

TX = optax.sgd(0.1, momentum=0.9)  # Adam's first update would hide a wrong scale


def two_layers(params, images):
    hidden = jax.nn.relu(images.reshape(len(images), -1) @ params["hidden"])
    return hidden @ params["head"]


def plan(**more):
    random = np.random.default_rng(0)
    params = {
        "hidden": random.normal(size=(16, 32)).astype(np.float32) / 4,
        "head": random.normal(size=(32, 3)).astype(np.float32) / 8,
    }
    made = Plan(
        apply_fn=two_layers, params=params, stages=[Stage(2, TX)], train=split(56), batch_size=16
    )
    return replace(made, **more)


def trained(directory, plan):
    hush = RunOptions(quiet=True)
    return train_run(plan, directory, settings={}, options=hush).params


def test_an_update_in_portions_is_that_of_the_whole_batch(tmp_path):
    """Also of an epoch's last batch, which is half full; 5 does not divide 16."""
    whole = trained(tmp_path / "whole", plan())
    cut = trained(tmp_path / "cut", plan(accumulate=5))
    assert not all(map(np.array_equal, jax.tree.leaves(cut), jax.tree.leaves(whole)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), cut, whole)


@pytest.mark.parametrize(("parts", "rows"), [(1, None), (2, 8), (5, 4), (16, 1)])
def test_rows_at_once(parts, rows):
    made = plan(accumulate=parts)
    assert rows_at_once(made, made.stages[0]) == rows


def test_no_portion_is_larger_than_what_suits_a_cpu(monkeypatch):
    large = split(8)
    images = np.zeros((8, 256, 256, 3), np.uint8)
    made = plan(train=Split(images, large.labels), batch_size=8, accumulate=2)
    assert micro_batch_size(images.shape, "cpu") == 1
    assert rows_at_once(made, made.stages[0]) == 1
    monkeypatch.setattr("mnistjax.runs.compiled_step.micro_batch_size", lambda *_, **__: None)
    assert rows_at_once(made, made.stages[0]) == 4


def test_a_model_with_state_needs_the_memory_of_a_portion():
    """By XLA's own account. Without state a CPU has its portions anyway."""
    apply_fn, params, model_state = nnx_model()
    made = plan(apply_fn=apply_fn, params=params, model_state=model_state, batch_size=4096)
    of = jax.ShapeDtypeStruct
    batch = of((4096, 4, 4, 1), np.uint8), of((4096,), np.int32), of((4096,), np.bool_)
    whole, cut = (_temporary(replace(made, accumulate=parts), batch) for parts in (1, 8))
    assert cut < whole / 4


def _temporary(plan, batch):
    step = make_train_step(
        apply_fn=plan.apply_fn, tx=TX, micro_batch=rows_at_once(plan, plan.stages[0])
    )
    return compile_for(step, plan.begin(), Batch(*batch))[0].memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("parts", [0, 17])
def test_what_is_no_number_of_portions_is_refused(parts):
    with pytest.raises(UsageError, match=f"`accumulate` {parts}: a batch of 16 has no such"):
        plan(accumulate=parts)


def test_optax_sums_several_steps_into_one_update(tmp_path):
    """As docs/scaling.md says of `mj.train`: the same examples, so the same update."""
    whole = trained(tmp_path / "whole", plan(train=split(48)))
    tx = optax.MultiSteps(TX, every_k_schedule=4).gradient_transformation()
    parts = plan(train=split(48), batch_size=4, stages=[Stage(2, tx)])
    several = trained(tmp_path / "several", parts)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), several, whole
    )
