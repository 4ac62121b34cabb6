"""VGG16's 13 convolutions forward in PyTorch: contiguous, channels_last, or compiled."""

import sys
import time

import numpy as np
import torch

from benchmarks.harness.timing import say_facts, windows
from benchmarks.peers.torch_small import DEVICE, wait
from benchmarks.peers.torch_vgg16_model import vgg16

mode, dtype = sys.argv[2], getattr(torch, sys.argv[3])
torch.set_num_threads(int(sys.argv[4]))
problem = np.load(sys.argv[1])
layout = torch.contiguous_format if mode == "contiguous" else torch.channels_last

model = vgg16(problem).eval().to(DEVICE, dtype, memory_format=layout)
pixels = np.ascontiguousarray(problem["images"].transpose(0, 3, 1, 2))
images = torch.tensor(pixels).to(DEVICE, dtype, memory_format=layout)
forward = torch.compile(model) if mode == "compile" else model


@torch.inference_mode()
def run(n: int) -> torch.Tensor:
    features = images
    for _ in range(n):
        features = forward(images)
    wait()
    return features


started = time.perf_counter()
features = run(1)
first = time.perf_counter() - started
say_facts(
    versions={"torch": torch.__version__},
    first_seconds=first,
    checks=features.float().permute(0, 2, 3, 1).abs().mean((0, 1, 2)).tolist(),
    windows=windows(run),
)
