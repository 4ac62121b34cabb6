"""From nothing to one training step of the small CNN in PyTorch."""

import torch
from torch import nn

from benchmarks.peers.torch_small import DEVICE, network, wait

model = network().to(DEVICE)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
images = torch.zeros(128, 1, 28, 28, device=DEVICE)
labels = torch.zeros(128, dtype=torch.int64, device=DEVICE)
nn.CrossEntropyLoss()(model(images), labels).backward()
optimizer.step()
wait()
