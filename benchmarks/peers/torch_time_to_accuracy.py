"""One seed of PyTorch to the targets, tensors indexed by a permutation."""

import sys

import numpy as np
import torch
from torch import nn

from benchmarks.harness.timing import say_facts, until
from benchmarks.peers.torch_small import DEVICE, small_cnn, wait

BATCH = 128
seed, epochs, every = (int(word) for word in sys.argv[2:5])
targets, threads = [float(word) for word in sys.argv[5:-1]], int(sys.argv[-1])
torch.set_num_threads(threads)
torch.manual_seed(seed)
problem = np.load(sys.argv[1])
model = small_cnn(problem, torch.contiguous_format)  # on CPUs the faster one, see `step`
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
loss_fn = nn.CrossEntropyLoss()
images, held_out = (
    torch.tensor(problem[f"{part}images"].transpose(0, 3, 1, 2) / np.float32(255), device=DEVICE)
    for part in ("", "validation_")
)
labels, truth = (
    torch.tensor(problem[f"{part}labels"].astype(np.int64), device=DEVICE)
    for part in ("", "validation_")
)
steps = -(-len(labels) // BATCH)


def train_to(first: int, last: int) -> None:
    global rows
    for number in range(first, last):
        if not number % steps:
            rows = torch.randperm(len(labels), device=DEVICE).split(BATCH)
        row = rows[number % steps]
        optimizer.zero_grad(set_to_none=True)
        loss_fn(model(images[row]), labels[row]).backward()
        optimizer.step()
    wait()


@torch.inference_mode()
def accuracy() -> float:
    said = torch.cat([model(part).argmax(-1) for part in held_out.split(500)])
    return float((said == truth).float().mean())


say_facts(
    versions={"torch": torch.__version__},
    compile_seconds=0.0,
    **until(targets, train_to, accuracy, steps=epochs * steps, every=every),
)
