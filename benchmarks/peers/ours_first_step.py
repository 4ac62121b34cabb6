"""From nothing to one training step of the small CNN in this library."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import mnistjax as mj
from mnistjax.training.compile import compile_for

mj.keep_host_memory()

batch = mj.Batch(
    jnp.zeros((128, 28, 28, 1), jnp.uint8), jnp.zeros(128, jnp.int32), jnp.ones(128, bool)
)
apply_fn, params = mj.functional(mj.CNN(rngs=nnx.Rngs(0)))
tx = optax.adam(1e-3)
state = mj.init_state(params, tx)
step, _ = compile_for(mj.make_train_step(apply_fn=apply_fn, tx=tx), state, batch)
jax.block_until_ready(step(state, batch))
