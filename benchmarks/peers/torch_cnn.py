"""The small CNN's training step in PyTorch: contiguous, channels_last, or compiled."""

import sys
import time

import numpy as np
import torch
from torch import nn

from benchmarks.harness.timing import say_facts, windows
from benchmarks.peers.torch_small import DEVICE, small_cnn, wait

mode = sys.argv[2]
torch.set_num_threads(int(sys.argv[3]))
problem = np.load(sys.argv[1])
layout = torch.contiguous_format if mode == "contiguous" else torch.channels_last

model = small_cnn(problem, layout)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
loss_fn = nn.CrossEntropyLoss()

pixels = problem["images"].astype(np.float32).transpose(0, 1, 4, 2, 3) / np.float32(255)
images = [torch.tensor(np.ascontiguousarray(batch)) for batch in pixels]
images = [batch.to(DEVICE, memory_format=layout) for batch in images]
labels = [torch.tensor(batch.astype(np.int64), device=DEVICE) for batch in problem["labels"]]
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
    wait()


started = time.perf_counter()
losses = [float(step(0))]
first = time.perf_counter() - started
losses += [float(step(i)) for i in range(1, len(images))]
say_facts(
    versions={"torch": torch.__version__},
    first_seconds=first,
    losses=losses,
    windows=windows(run),
)
