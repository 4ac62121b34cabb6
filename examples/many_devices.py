"""All devices of a machine share each batch; nothing has to be said, the result is one device's.

On a machine with several GPUs drop the first lines. On a CPU they make four virtual devices of it,
which shows that it works, not that it is faster.
"""

import os

os.environ["NPROC"] = "8"  # threads: with fewer than devices, a sum over devices waits for ever

import jax

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)

from flax import nnx

import mnistjax as mj

data = mj.load_dataset("digits")
model = mj.Head(map_shape=(28, 28, 1), rngs=nnx.Rngs(0))  # two dense layers
run = mj.train(model, data, "runs/four", epochs=4, batch_size=128)
print(f"{run.summary['test_accuracy']:.1%} right, on {run.summary['device_count']} devices")

try:
    mj.train(model, data, "runs/odd", batch_size=50)
except mj.MnistjaxError as error:
    print(error)
