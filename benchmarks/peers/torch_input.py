"""Batches in PyTorch: a DataLoader in this process, or tensors indexed by a permutation."""

import sys
import time

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.harness.timing import say_facts, windows
from benchmarks.peers.torch_small import DEVICE, wait

BATCH = 128
mode = sys.argv[2]
torch.set_num_threads(int(sys.argv[3]))
problem = np.load(sys.argv[1])
images = torch.tensor(problem["images"].transpose(0, 3, 1, 2))
labels = torch.tensor(problem["labels"].astype(np.int64))
loader = DataLoader(TensorDataset(images, labels), BATCH, shuffle=True)
images, labels = images.to(DEVICE), labels.to(DEVICE)


def epoch():
    if mode == "loader":
        for x, y in loader:
            yield x.to(DEVICE).float() / 255, y.to(DEVICE)
    else:
        for row in torch.randperm(len(labels), device=DEVICE).split(BATCH):
            yield images[row].float() / 255, labels[row]


def run(n: int) -> None:
    for _ in range(n):
        for _batch in epoch():
            pass
    wait()


started = time.perf_counter()
next(epoch())
first = time.perf_counter() - started
checks = [0.0, 0.0]
for x, y in epoch():
    pixels = x.sum((1, 2, 3))
    checks[0] += float(pixels.sum())
    checks[1] += float((pixels * y).sum())
say_facts(
    versions={"torch": torch.__version__},
    first_seconds=first,
    checks=checks,
    windows=windows(run, warm=(1, 1)),
)
