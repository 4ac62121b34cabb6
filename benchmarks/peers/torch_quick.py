"""One seed of the quick recipe in PyTorch: one-cycle Adam, smoothed labels, one epoch, the test."""

import sys
import time

import numpy as np
import torch
from torch import nn

from benchmarks.harness.timing import say_facts
from benchmarks.peers.torch_small import DEVICE, small_cnn, wait

BATCH, RATE = 64, 0.005
_, path, _, seed, threads = sys.argv
torch.set_num_threads(int(threads))
torch.manual_seed(int(seed))
problem = np.load(path)
model = small_cnn(problem, torch.contiguous_format)  # on CPUs the faster one, see `step`
images, held_out = (
    torch.tensor(problem[f"{part}images"].transpose(0, 3, 1, 2) / np.float32(255), device=DEVICE)
    for part in ("", "test_")
)
labels, truth = (
    torch.tensor(problem[f"{part}labels"].astype(np.int64), device=DEVICE) for part in ("", "test_")
)
rows = torch.randperm(len(labels), device=DEVICE).split(BATCH)
optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
schedule = torch.optim.lr_scheduler.OneCycleLR(
    optimizer,
    max_lr=RATE,
    total_steps=len(rows),
    pct_start=0.3,
    div_factor=10,
    final_div_factor=10,
    cycle_momentum=False,
)
loss_fn = nn.CrossEntropyLoss(label_smoothing=0.05)
started = time.perf_counter()
for row in rows:
    optimizer.zero_grad(set_to_none=True)
    loss_fn(model(images[row]), labels[row]).backward()
    optimizer.step()
    schedule.step()
wait()
train_seconds = time.perf_counter() - started
with torch.inference_mode():
    said = torch.cat([model(part).argmax(-1) for part in held_out.split(500)])
say_facts(
    versions={"torch": torch.__version__},
    accuracy=float((said == truth).double().mean()),
    train_seconds=train_seconds,
)
