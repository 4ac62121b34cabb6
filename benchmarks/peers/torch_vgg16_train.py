"""A training step of all of VGG16 and a head in PyTorch: contiguous or channels_last."""

import sys
import time

import numpy as np
import torch
from torch import nn

from benchmarks.harness.timing import say_facts, windows
from benchmarks.peers.torch_small import DEVICE, wait
from benchmarks.peers.torch_vgg16_model import vgg16

STEPS = 4
mode, dtype = sys.argv[2], getattr(torch, sys.argv[3])
torch.set_num_threads(int(sys.argv[4]))
problem = np.load(sys.argv[1])
layout = torch.contiguous_format if mode == "contiguous" else torch.channels_last
backbone = vgg16(problem).to(DEVICE, memory_format=layout)
head = nn.Sequential(
    nn.Linear(len(problem["dense1/kernel"]), 256), nn.ReLU(), nn.Linear(256, 10)
).to(DEVICE)
for name, layer in {"dense1": head[0], "dense2": head[2]}.items():
    layer.weight.data = torch.tensor(problem[f"{name}/kernel"].T.copy(), device=DEVICE)
    layer.bias.data = torch.tensor(problem[f"{name}/bias"], device=DEVICE)
optimizer = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=1e-4)
loss_fn = nn.CrossEntropyLoss()
pixels = np.ascontiguousarray(problem["images"].transpose(0, 3, 1, 2))
images = torch.tensor(pixels).to(DEVICE, memory_format=layout)
labels = torch.tensor(problem["labels"].astype(np.int64), device=DEVICE)


def step() -> torch.Tensor:
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(DEVICE.type, dtype, enabled=dtype != torch.float32):
        # Rows in our order height, width, channel.
        logits = head(backbone(images).permute(0, 2, 3, 1).flatten(1))
    loss = loss_fn(logits.float(), labels)
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
    windows=windows(run, warm=(1,)),
)
