"""A training step of a network of the field in PyTorch, channels_last."""

import sys
import time

import numpy as np
import torch
from torch import nn

from benchmarks.harness.timing import say_facts, windows
from benchmarks.peers.torch_net_start import keep_memory, network
from benchmarks.peers.torch_small import DEVICE, wait

STEPS = 3
name, way, threads = sys.argv[2:5]
if way == "kept":
    keep_memory()
torch.set_num_threads(int(threads))
problem = np.load(sys.argv[1])
model = network(problem, name).train().to(DEVICE, memory_format=torch.channels_last)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
loss_fn = nn.CrossEntropyLoss()
pixels = np.ascontiguousarray(problem["images"].transpose(0, 3, 1, 2))
images = torch.tensor(pixels).to(DEVICE, memory_format=torch.channels_last)
labels = torch.tensor(problem["labels"].astype(np.int64), device=DEVICE)


def step() -> torch.Tensor:
    optimizer.zero_grad(set_to_none=True)
    loss = loss_fn(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.detach()


def run(n: int) -> None:
    for _ in range(n):
        step()
    wait()


started = time.perf_counter()
losses = [float(step())]
first = time.perf_counter() - started
losses += [float(step()) for _ in range(STEPS - 1)]
say_facts(
    versions={"torch": torch.__version__},
    first_seconds=first,
    losses=losses,
    windows=windows(run, count=3, warm=(1,)),
)
