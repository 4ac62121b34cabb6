"""A network of the field forward in PyTorch: channels_last, or compiled."""

import sys
import time

import numpy as np
import torch

from benchmarks.harness.timing import say_facts, windows
from benchmarks.peers.torch_net_start import keep_memory, network
from benchmarks.peers.torch_small import DEVICE, wait

name, mode = sys.argv[2:4]
if mode == "kept":
    keep_memory()
torch.set_num_threads(int(sys.argv[4]))
problem = np.load(sys.argv[1])
model = network(problem, name).eval().to(DEVICE, memory_format=torch.channels_last)
pixels = np.ascontiguousarray(problem["images"].transpose(0, 3, 1, 2))
images = torch.tensor(pixels).to(DEVICE, memory_format=torch.channels_last)
forward = torch.compile(model) if mode == "compile" else model


@torch.inference_mode()
def run(n: int) -> torch.Tensor:
    logits = images
    for _ in range(n):
        logits = forward(images)
    wait()
    return logits


started = time.perf_counter()
logits = run(1)
first = time.perf_counter() - started
say_facts(
    versions={"torch": torch.__version__},
    first_seconds=first,
    checks=logits.abs().transpose(0, 1).flatten(1).mean(1).tolist(),
    windows=windows(run),
)
