"""The small CNN in PyTorch with the problem's first parameters, on the device that is measured."""

import sys
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from benchmarks.harness.timing import on_gpu

if on_gpu() and not torch.cuda.is_available():
    sys.exit("this PyTorch has no CUDA")
DEVICE = torch.device("cuda" if on_gpu() else "cpu")
torch.backends.cuda.matmul.allow_tf32 = True  # as JAX and PyTorch's own convolutions do


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def small_cnn(problem: Mapping[str, np.ndarray], layout: torch.memory_format) -> nn.Sequential:
    model = network()
    for name, layer in {"conv1": model[0], "conv2": model[3]}.items():
        kernel = problem[f"{name}/kernel"].transpose(3, 2, 0, 1)
        layer.weight.data = torch.tensor(np.ascontiguousarray(kernel))
        layer.bias.data = torch.tensor(problem[f"{name}/bias"])
    for name, layer in {"dense1": model[7], "dense2": model[9]}.items():
        kernel = problem[f"{name}/kernel"]
        if name == "dense1":  # rows in our order height, width, channel; Flatten's is channel first
            kernel = kernel.reshape(5, 5, 64, 128).transpose(2, 0, 1, 3).reshape(1600, 128)
        layer.weight.data = torch.tensor(np.ascontiguousarray(kernel.T))
        layer.bias.data = torch.tensor(problem[f"{name}/bias"])
    return model.to(DEVICE, memory_format=layout)


def wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
