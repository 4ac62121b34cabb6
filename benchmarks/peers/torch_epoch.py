"""Epochs of the small CNN in PyTorch: a DataLoader, or tensors indexed by a permutation."""

import sys
import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.harness.timing import say_facts, windows
from benchmarks.peers.torch_small import DEVICE, small_cnn, wait

mode = sys.argv[2]
torch.set_num_threads(int(sys.argv[3]))
problem = np.load(sys.argv[1])
model = small_cnn(problem, torch.contiguous_format)  # on CPUs the faster one, see `step`
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
loss_fn = nn.CrossEntropyLoss()
batch_size = problem["labels"].shape[1]
pixels = problem["images"].reshape(-1, 1, 28, 28).astype(np.float32) / np.float32(255)
images = torch.tensor(pixels)
labels = torch.tensor(problem["labels"].reshape(-1).astype(np.int64))
loader = DataLoader(TensorDataset(images, labels), batch_size, shuffle=True)
images, labels = images.to(DEVICE), labels.to(DEVICE)


def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    optimizer.zero_grad(set_to_none=True)
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.detach()


def run(n: int) -> None:
    for _ in range(n):
        if mode == "loader":
            for x, y in loader:
                step(x.to(DEVICE), y.to(DEVICE))
        else:
            order = torch.randperm(len(labels), device=DEVICE)
            for row in order.split(batch_size):
                step(images[row], labels[row])
    wait()


rows = torch.arange(len(labels), device=DEVICE).split(batch_size)[:20]
started = time.perf_counter()
losses = [float(step(images[rows[0]], labels[rows[0]]))]
first = time.perf_counter() - started
losses += [float(step(images[row], labels[row])) for row in rows[1:]]
say_facts(
    versions={"torch": torch.__version__},
    first_seconds=first,
    losses=losses,
    windows=windows(run, warm=(1,)),
)
