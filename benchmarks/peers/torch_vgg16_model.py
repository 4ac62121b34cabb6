"""VGG16's convolutions in PyTorch with the problem's kernels."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn


def vgg16(problem: Mapping[str, np.ndarray]) -> nn.Sequential:
    layers = []
    for block, convs in enumerate((2, 2, 3, 3, 3), 1):
        for i in range(1, convs + 1):
            kernel = problem[f"block{block}_conv{i}/kernel"].transpose(3, 2, 0, 1)
            conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
            conv.weight.data = torch.tensor(np.ascontiguousarray(kernel))
            conv.bias.data = torch.tensor(problem[f"block{block}_conv{i}/bias"])
            layers += [conv, nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)
