"""From nothing to one training step of the small CNN in JAX as tutorials write it."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks.peers.jax_usual_small import CNN, make_train_step

graphdef, state = nnx.split(CNN(nnx.Rngs(0)))
params = nnx.to_pure_dict(state)
tx = optax.adam(1e-3)
train_step = make_train_step(graphdef, tx)
arrays = jnp.zeros((128, 28, 28, 1)), jnp.zeros(128, jnp.int32)
jax.block_until_ready(train_step((params, tx.init(params)), *arrays))
