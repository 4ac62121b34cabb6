"""VGG16's 13 convolutions forward in PyTorch: contiguous, channels_last, or compiled."""

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

layers = []
for block, convs in enumerate((2, 2, 3, 3, 3), 1):
    for i in range(1, convs + 1):
        kernel = problem[f"block{block}_conv{i}/kernel"].transpose(3, 2, 0, 1)
        conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
        conv.weight.data = torch.tensor(np.ascontiguousarray(kernel))
        conv.bias.data = torch.tensor(problem[f"block{block}_conv{i}/bias"])
        layers += [conv, nn.ReLU(inplace=True)]
    layers.append(nn.MaxPool2d(2))
model = nn.Sequential(*layers).eval().to(memory_format=layout)
pixels = np.ascontiguousarray(problem["images"].transpose(0, 3, 1, 2))
images = torch.tensor(pixels).to(memory_format=layout)
forward = torch.compile(model) if mode == "compile" else model


@torch.inference_mode()
def run(n: int) -> torch.Tensor:
    for _ in range(n):
        features = forward(images)
    return features


started = time.perf_counter()
features = run(1)
first = time.perf_counter() - started
report(
    versions={"torch": torch.__version__},
    first_seconds=first,
    checks=features.permute(0, 2, 3, 1).abs().mean((0, 1, 2)).tolist(),
    windows=windows(run),
)
