"""A network of the field in PyTorch with the problem's parameters."""

import runpy
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from benchmarks.peers.torch_net_model import MobileNetV2, ResNet
from benchmarks.peers.torch_net_more import ConvNext, UNet

MADE = {"resnet": ResNet, "mobilenet": MobileNetV2, "unet": UNet, "convnext": ConvNext}


def keep_memory() -> None:
    """What `mnistjax.keep_host_memory` does; of its package's needs this Python has none."""
    runpy.run_path("mnistjax/host_memory.py")["keep_host_memory"]()


def network(problem: Mapping[str, np.ndarray], name: str) -> nn.Module:
    model = MADE[name]()
    for path, parameter in model.named_parameters():
        layer, _, role = path.replace(".", "/").rpartition("/")
        if role == "weight":
            role = "scale" if parameter.ndim == 1 else "kernel"
        array = problem[f"{layer}/{role}"]
        transposed = isinstance(model.get_submodule(layer.replace("/", ".")), nn.ConvTranspose2d)
        if transposed and array.ndim == 4:
            array = array[::-1, ::-1].transpose(2, 3, 0, 1)  # Flax does not turn it
        else:
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        if array.shape != parameter.shape:
            raise ValueError(f"{path}: {tuple(parameter.shape)}, not {array.shape}")
        parameter.data = torch.tensor(np.ascontiguousarray(array))
    return model
