"""Fine-tuning VGG16's head in PyTorch, channels_last: the frozen part under `no_grad`."""

import sys

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate

from benchmarks.harness.timing import say_facts, whole_jobs
from benchmarks.peers.torch_small import DEVICE, wait
from benchmarks.peers.torch_vgg16_model import vgg16

problem = np.load(sys.argv[1])
epochs, batch_size, size, threads = (int(word) for word in sys.argv[2:6])
torch.set_num_threads(threads)
BGR_MEANS = torch.tensor([103.939, 116.779, 123.68], device=DEVICE).reshape(1, 3, 1, 1)

backbone = vgg16(problem).eval().requires_grad_(False)
backbone = backbone.to(DEVICE, memory_format=torch.channels_last)
head = nn.Sequential(nn.Linear(7 * 7 * 512, 256), nn.ReLU(), nn.Linear(256, 10))
head = head.to(DEVICE)
first = {
    f"{i}.{ours}": torch.tensor(np.ascontiguousarray(problem[f"{layer}/{theirs}"].T))
    for i, layer in {0: "dense1", 2: "dense2"}.items()
    for ours, theirs in {"weight": "kernel", "bias": "bias"}.items()
}
labels = torch.tensor(problem["labels"].astype(np.int64), device=DEVICE)
loss_fn = nn.CrossEntropyLoss()
losses: list[float] = []


def prepare(pixels: np.ndarray) -> torch.Tensor:
    grey = torch.tensor(pixels, device=DEVICE).permute(0, 3, 1, 2).float()
    large = interpolate(grey, (size, size), mode="bilinear", align_corners=False)
    return (large - BGR_MEANS).contiguous(memory_format=torch.channels_last)


def job(pixels: np.ndarray = problem["images"], epochs: int = epochs) -> None:
    global losses
    images = prepare(pixels)
    head.load_state_dict(first)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    measured = []
    for _ in range(epochs):
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=False):
            optimizer.zero_grad(set_to_none=True)
            with torch.no_grad():
                maps = backbone(x)
            # Rows in our order height, width, channel: a view of a channels_last map.
            loss = loss_fn(head(maps.permute(0, 2, 3, 1).flatten(1)), y)
            loss.backward()
            optimizer.step()
            measured.append(loss.detach())
    wait()
    losses = [float(loss) for loss in measured]


def part() -> None:
    job(problem["images"][:batch_size], 1)


times = whole_jobs(job, part=part)
say_facts(versions={"torch": torch.__version__}, losses=losses, share=1, **times)
