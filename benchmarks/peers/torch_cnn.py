"""The small CNN's training step in PyTorch: contiguous, channels_last, or compiled."""

import sys
import time

import numpy as np
import torch
from torch import nn

from benchmarks.timing import report, windows

mode = sys.argv[2]
torch.set_num_threads(int(sys.argv[3]))
problem = np.load(sys.argv[1])
layout = torch.contiguous_format if mode == "contiguous" else torch.channels_last

model = nn.Sequential(
    nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10),
)  # fmt: skip
for name, layer in {"conv1": model[0], "conv2": model[3]}.items():
    kernel = problem[f"{name}/kernel"].transpose(3, 2, 0, 1)
    layer.weight.data = torch.tensor(np.ascontiguousarray(kernel))
    layer.bias.data = torch.tensor(problem[f"{name}/bias"])
for name, layer in {"dense1": model[7], "dense2": model[9]}.items():
    kernel = problem[f"{name}/kernel"]
    if name == "dense1":  # rows in our order height, width, channel; Flatten's is channel first
        kernel = kernel.reshape(5, 5, 64, 128).transpose(2, 0, 1, 3).reshape(1600, 128)
    layer.weight.data = torch.tensor(np.ascontiguousarray(kernel.T))
    layer.bias.data = torch.tensor(problem[f"{name}/bias"])
model = model.to(memory_format=layout)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
loss_fn = nn.CrossEntropyLoss()

pixels = problem["images"].astype(np.float32).transpose(0, 1, 4, 2, 3) / np.float32(255)
images = [torch.tensor(np.ascontiguousarray(batch)).to(memory_format=layout) for batch in pixels]
labels = [torch.tensor(batch.astype(np.int64)) for batch in problem["labels"]]
forward = torch.compile(model) if mode == "compile" else model


def step(i: int) -> torch.Tensor:
    optimizer.zero_grad(set_to_none=True)
    loss = loss_fn(forward(images[i % len(images)]), labels[i % len(labels)])
    loss.backward()
    optimizer.step()
    return loss.detach()


def run(n: int) -> None:
    for i in range(n):
        step(i)


started = time.perf_counter()
losses = [float(step(0))]
first = time.perf_counter() - started
losses += [float(step(i)) for i in range(1, len(images))]
report(
    versions={"torch": torch.__version__},
    first_seconds=first,
    losses=losses,
    windows=windows(run),
)
