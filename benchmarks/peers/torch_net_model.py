"""ResNet-18 with preactivation and MobileNetV2 in PyTorch, their layers named as in Flax.

Flax pads maps of even sides by nothing above and 1 below where strides are 2; so does `Same`.
"""

from torch import nn
from torch.nn import functional as F

STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2),
    (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip


class Same(nn.Conv2d):
    def __init__(self, inputs, outputs, size, stride=1, groups=1):
        padding = size // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, size, stride, padding, groups=groups, bias=False)
        self.uneven = stride == 2 and size == 3

    def forward(self, x):
        return super().forward(F.pad(x, (0, 1, 0, 1)) if self.uneven else x)


def norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.01)


class ResidualBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.norm1, self.conv1 = norm(inputs), Same(inputs, outputs, 3, stride)
        self.norm2, self.conv2 = norm(outputs), Same(outputs, outputs, 3)
        changes = stride != 1 or inputs != outputs
        self.shortcut = Same(inputs, outputs, 1, stride) if changes else None

    def forward(self, x):
        normed = F.relu(self.norm1(x), inplace=True)
        kept = x if self.shortcut is None else self.shortcut(normed)
        return kept + self.conv2(F.relu(self.norm2(self.conv1(normed)), inplace=True))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = Same(3, 64, 3)
        shapes = [(64, 64, 1), (64, 64, 1)]
        for width in (64, 128, 256):
            shapes += [(width, 2 * width, 2), (2 * width, 2 * width, 1)]
        self.blocks = nn.Sequential(*(ResidualBlock(*shape) for shape in shapes))
        self.norm, self.dense = norm(512), nn.Linear(512, 10)

    def forward(self, x):
        x = F.relu(self.norm(self.blocks(self.stem(x))), inplace=True)
        return self.dense(x.mean((2, 3)))


class ConvNorm(nn.Module):
    def __init__(self, inputs, outputs, size, stride=1, groups=1):
        super().__init__()
        self.conv, self.norm = Same(inputs, outputs, size, stride, groups), norm(outputs)

    def forward(self, x):
        return self.norm(self.conv(x))


class InvertedBlock(nn.Module):
    def __init__(self, inputs, outputs, widening, stride):
        super().__init__()
        wide = inputs * widening
        self.widen = None if widening == 1 else ConvNorm(inputs, wide, 1)
        self.depthwise = ConvNorm(wide, wide, 3, stride, groups=wide)
        self.narrow = ConvNorm(wide, outputs, 1)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x):
        wide = x if self.widen is None else F.relu6(self.widen(x), inplace=True)
        y = self.narrow(F.relu6(self.depthwise(wide), inplace=True))
        return x + y if self.adds else y


class MobileNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.last = ConvNorm(3, 32, 3), ConvNorm(320, 1280, 1)
        made, inputs = [], 32
        for widening, outputs, count, stride in STAGES:
            for number in range(count):
                made.append(InvertedBlock(inputs, outputs, widening, 1 if number else stride))
                inputs = outputs
        self.blocks, self.dense = nn.Sequential(*made), nn.Linear(1280, 10)

    def forward(self, x):
        x = self.blocks(F.relu6(self.stem(x), inplace=True))
        return self.dense(F.relu6(self.last(x), inplace=True).mean((2, 3)))
