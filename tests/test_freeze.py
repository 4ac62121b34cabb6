from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mnistjax.data.batches import Batch
from mnistjax.errors import UsageError
from mnistjax.runs.checkpoint import Checkpoints
from mnistjax.training.freeze import freeze_mask, match_once, merge, paths, trainable_part
from mnistjax.training.groups import group_by_path, retarget
from mnistjax.training.state import init_state
from mnistjax.training.step import make_train_step

HEAD_ONLY = ["head/*"]
CLIPPED = optax.chain(optax.clip_by_global_norm(0.01), optax.adamw(1e-2, weight_decay=0.1))


def make_params():
    """Two convolutions written as products of patches, and a head."""
    random = np.random.default_rng(0)

    def dense(inputs, outputs):
        kernel = random.standard_normal((inputs, outputs), np.float32) / np.sqrt(inputs)
        return {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.full(outputs, 0.1)}

    backbone = {"block1_conv": dense(9, 16), "block2_conv": dense(144, 24)}
    return {"backbone": backbone, "head": {"dense": dense(96, 4)}}


def conv(layer, x):
    height, width = x.shape[1] - 2, x.shape[2] - 2
    corners = [(i, j) for i in range(3) for j in range(3)]
    patches = [x[:, i : i + height, j : j + width] for i, j in corners]
    return jax.nn.relu(jnp.concatenate(patches, axis=-1) @ layer["kernel"] + lift(layer["bias"], 4))


def lift(bias, ndim):
    return bias.reshape((1,) * (ndim - 1) + bias.shape)


def apply_fn(params, images):
    x = conv(params["backbone"]["block1_conv"], images)
    x = conv(params["backbone"]["block2_conv"], x)
    return x.reshape(len(x), -1) @ params["head"]["dense"]["kernel"] + lift(
        params["head"]["dense"]["bias"], 2
    )


@pytest.fixture
def batch():
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (8, 6, 6, 1)).astype(np.uint8)
    labels = jnp.asarray(random.integers(0, 4, 8), jnp.int32)
    return Batch(jnp.asarray(images), labels, jnp.ones(8, bool))


def frozen_run(batch, tx, mask, steps=5, **arguments):
    tx = optax.selective_transform(tx, freeze_mask=mask)
    step = make_train_step(apply_fn=apply_fn, tx=tx, frozen=mask, **arguments)
    state = init_state(make_params(), tx)
    for _ in range(steps):
        state, _ = step(state, batch)
    return state


def head_only_run(batch, tx, steps=5):
    """The same training with the backbone a constant and no mask anywhere."""
    backbone = make_params()["backbone"]
    step = make_train_step(
        apply_fn=lambda params, images: apply_fn(params | {"backbone": backbone}, images), tx=tx
    )
    state = init_state({"head": make_params()["head"]}, tx)
    for _ in range(steps):
        state, _ = step(state, batch)
    return state


def assert_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_frozen_leaves_keep_every_bit_and_the_rest_moves(batch, micro_batch):
    mask = freeze_mask(make_params(), trainable=HEAD_ONLY)
    state = frozen_run(batch, CLIPPED, mask, micro_batch=micro_batch)
    before = make_params()
    assert_bits(state.params["backbone"], before["backbone"])  # weight decay included
    for name in ("kernel", "bias"):
        assert np.all(state.params["head"]["dense"][name] != before["head"]["dense"][name])


def test_a_clip_reads_no_frozen_gradient(batch):
    mask = freeze_mask(make_params(), trainable=HEAD_ONLY)
    wanted = head_only_run(batch, CLIPPED)
    inside = frozen_run(batch, CLIPPED, mask)
    tx = optax.chain(
        optax.clip_by_global_norm(0.01),
        optax.selective_transform(optax.adamw(1e-2, weight_decay=0.1), freeze_mask=mask),
    )
    step = make_train_step(apply_fn=apply_fn, tx=tx, frozen=mask)
    around = init_state(make_params(), tx)
    for _ in range(5):
        around, _ = step(around, batch)
    for state in (inside, around):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
            state.params["head"],
            wanted.params["head"],
        )


def test_the_optimiser_holds_no_frozen_leaf():
    mask = freeze_mask(make_params(), trainable=HEAD_ONLY)
    state = optax.selective_transform(CLIPPED, freeze_mask=mask).init(make_params())
    names = [name for name in paths(state) if "kernel" in name or "bias" in name]
    assert len(names) == 4  # two moments of the head's two
    assert not [name for name in names if "backbone" in name]
    head = CLIPPED.init(make_params()["head"])
    assert sum(x.size for x in jax.tree.leaves(state)) == sum(x.size for x in jax.tree.leaves(head))


def flops(step, *arguments):
    return step.lower(*arguments).compile().cost_analysis()["flops"]


def test_a_frozen_step_costs_what_a_head_only_step_costs(batch):
    mask = freeze_mask(make_params(), trainable=HEAD_ONLY)
    tx = optax.selective_transform(CLIPPED, freeze_mask=mask)
    params, backbone = make_params(), make_params()["backbone"]
    frozen = make_train_step(apply_fn=apply_fn, tx=tx, frozen=mask)

    # The backbone is an argument here too: as a constant of the program it would fold away.
    @jax.jit
    def head_only(head, backbone, opt_state, batch):
        def loss(head):
            images = batch.images.astype(jnp.float32) / 255
            logits = apply_fn({"head": head, "backbone": backbone}, images)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
            return jnp.mean(losses)

        grads = jax.grad(loss)(head)
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = CLIPPED.update(grads, opt_state, head)
        return optax.apply_updates(head, updates), opt_state

    arguments = params["head"], backbone, CLIPPED.init(params["head"]), batch
    wanted = flops(head_only, *arguments)
    got = flops(frozen, init_state(params, tx), batch)
    unfrozen = make_train_step(apply_fn=apply_fn, tx=CLIPPED)
    everything = flops(unfrozen, init_state(make_params(), CLIPPED), batch)
    assert got == pytest.approx(wanted, rel=0.02)
    assert everything > 1.5 * wanted  # so the comparison can fail


def test_bare_masked_does_not_freeze(batch):
    """Why the mask goes through `selective_transform`: `masked` lets raw gradients pass."""
    trainable = jax.tree.map(lambda x: not x, freeze_mask(make_params(), trainable=HEAD_ONLY))
    tx = optax.masked(optax.adam(1e-3), trainable)
    step = make_train_step(apply_fn=apply_fn, tx=tx)
    state, _ = step(init_state(make_params(), tx), batch)
    moved = state.params["backbone"]["block2_conv"]["kernel"]
    assert not np.array_equal(moved, make_params()["backbone"]["block2_conv"]["kernel"])


def test_a_pattern_without_match_names_the_closest_paths():
    with pytest.raises(UsageError, match=r"pattern head/dnese/\*: matches no.*head/dense/kernel"):
        freeze_mask(make_params(), trainable=["head/*", "head/dnese/*"])
    with pytest.raises(UsageError, match=r"pattern block1/\*.*backbone/block1_conv"):
        match_once(make_params(), {"*": 1, "block1/*": 2})


def test_every_parameter_is_covered_and_the_first_pattern_wins():
    rates = match_once(make_params(), {"*/block2_*": 1e-5, "backbone/*": 1e-6, "head/*": 1e-3})
    assert rates["backbone"]["block2_conv"] == {"kernel": 1e-5, "bias": 1e-5}
    assert rates["backbone"]["block1_conv"]["kernel"] == 1e-6
    with pytest.raises(UsageError, match="2 parameters .head/dense/bias, head/dense/kernel"):
        match_once(make_params(), {"backbone/*": 1})
    with pytest.raises(UsageError, match=r"pattern head/\*: matches only.*earlier"):
        match_once(make_params(), {"*": 1, "head/*": 2})


def test_parts_merge_to_the_whole():
    params, mask = make_params(), freeze_mask(make_params(), trainable=["*/block2_conv/bias"])
    part = trainable_part(params, mask)
    assert paths(part) == ["backbone/block2_conv/bias"]
    assert_bits(merge(part, params, mask), params)


def stage(params, **rates):
    groups = {f"{name}/*": optax.adam(rate) for name, rate in rates.items()}
    groups = {key.replace("block2", "backbone/block2_conv"): tx for key, tx in groups.items()}
    return group_by_path(params, groups | {"backbone/block1_conv/*": None} | rest(rates))


def rest(rates):
    return {} if "block2" in rates else {"backbone/block2_conv/*": None}


def run_stage(state, groups, batch, steps):
    step = make_train_step(apply_fn=apply_fn, tx=groups.tx, frozen=groups.frozen)
    for _ in range(steps):
        state, _ = step(state, batch)
    return state


def test_a_later_stage_keeps_the_moments_and_starts_the_new(batch):
    first = stage(make_params(), head=1e-3)
    state = run_stage(init_state(make_params(), first.tx), first, batch, 20)
    second = stage(make_params(), head=1e-4, block2=1e-5)
    opt_state, fresh = retarget(state.opt_state, tx=second.tx, params=state.params)
    assert fresh == ("backbone/block2_conv/bias", "backbone/block2_conv/kernel")
    old, new = (cast(Any, states).inner_states for states in (state.opt_state, opt_state))
    assert_bits(new["head/*"], old["head/*"])
    adam = new["backbone/block2_conv/*"].inner_state[0]
    assert int(adam.count) == 0
    assert all(not np.any(x) for x in jax.tree.leaves((adam.mu, adam.nu)))

    before = jax.tree.map(np.asarray, state.params)
    state = run_stage(state._replace(opt_state=opt_state), second, batch, 1)
    assert_bits(state.params["backbone"]["block1_conv"], before["backbone"]["block1_conv"])
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), state.params, before)
    assert moved["backbone"]["block2_conv"]["kernel"] == pytest.approx(1e-5, rel=0.1)
    assert 1e-5 < moved["head"]["dense"]["kernel"] < 3e-4


def test_old_and_new_parameters_may_not_share_a_step_count(batch):
    params = make_params()
    mask = freeze_mask(params, trainable=HEAD_ONLY)
    state = frozen_run(batch, optax.adam(1e-3), mask, steps=1)
    wider = freeze_mask(params, trainable=["head/*", "backbone/block2_conv/*"])
    tx = optax.selective_transform(optax.adam(1e-3), freeze_mask=wider)
    with pytest.raises(UsageError, match=r"block2_conv/bias: joins a group.*pattern of its own"):
        retarget(state.opt_state, tx=tx, params=params)
    # Without a count nothing is amiss, even within a layer.
    momentum, bias = optax.sgd(0.1, momentum=0.9), freeze_mask(params, trainable=["head/*/bias"])
    old = optax.selective_transform(momentum, freeze_mask=bias).init(params)
    tx = optax.selective_transform(momentum, freeze_mask=mask)
    assert retarget(old, tx=tx, params=params).fresh == ("head/dense/kernel",)


def test_a_clip_goes_around_the_groups(batch):
    groups = stage(make_params(), head=1e-3)
    tx = optax.chain(optax.clip_by_global_norm(1e-3), groups.tx)
    state = run_stage(init_state(make_params(), tx), groups._replace(tx=tx), batch, 3)
    wanted = head_only_run(
        batch, optax.chain(optax.clip_by_global_norm(1e-3), optax.adam(1e-3)), steps=3
    )
    np.testing.assert_allclose(
        state.params["head"]["dense"]["kernel"], wanted.params["head"]["dense"]["kernel"], rtol=1e-5
    )


def test_a_frozen_state_survives_a_checkpoint(batch, tmp_path):
    groups = stage(make_params(), head=1e-3)
    state = run_stage(init_state(make_params(), groups.tx), groups, batch, 2)
    with Checkpoints(tmp_path) as saves:
        saves.save(2, state, extra={})
        restored = saves.restore(2, like=state).state
    assert_bits(restored, state)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
