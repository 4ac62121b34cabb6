"""BatchNorm and Dropout: running statistics travel with the parameters, masks follow the seed.

Nothing special to do: `mj.train` sees that the module has state. For a loop of your own,
`mj.functional_with_state` splits it; a Linen or plain function is marked by `mj.with_state`.
"""

from flax import nnx

import mnistjax as mj


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(1, 16, (3, 3), strides=2, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(16, momentum=0.9, rngs=rngs)
        self.drop = nnx.Dropout(0.25, rngs=rngs)
        self.dense = nnx.Linear(14 * 14 * 16, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        return self.dense(self.drop(x.reshape(len(x), -1)))


run = mj.train(Net(nnx.Rngs(0)), mj.load_dataset("digits"), "runs/batch-norm", epochs=8)
params, model_state = run.best_model
print(f"{run.summary['test_accuracy']:.1%} right")
print(f"running mean of channel 0: {model_state['norm']['mean'][0]:.3f}")
