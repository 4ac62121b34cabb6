"""A small U-Net and ConvNeXt-T in PyTorch, their layers named as in Flax."""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.peers.torch_net_model import Same, norm

WIDTHS = 32, 64, 128, 256


class DoubleConv(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv1, self.norm1 = Same(inputs, outputs, 3), norm(outputs)
        self.conv2, self.norm2 = Same(outputs, outputs, 3), norm(outputs)

    def forward(self, x):
        x = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(x)), inplace=True)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        pairs = zip((3, *WIDTHS), WIDTHS, strict=False)
        self.down = nn.ModuleList(DoubleConv(*pair) for pair in pairs)
        back = list(zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(wide, thin, 2, 2) for wide, thin in back)
        self.merge = nn.ModuleList(DoubleConv(2 * thin, thin) for _, thin in back)
        self.last = nn.Conv2d(WIDTHS[0], 10, 1)

    def forward(self, x):
        kept, x = [], self.down[0](x)
        for block in self.down[1:]:
            kept.append(x)
            x = block(F.max_pool2d(x, 2))
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([kept.pop(), up(x)], 1))
        return self.last(x)


class ConvNextBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, 1e-6)
        self.dense1 = nn.Linear(channels, 4 * channels)
        self.dense2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))  # in channels_last a view
        y = self.gamma * self.dense2(F.gelu(self.dense1(y)))
        return x + y.permute(0, 3, 1, 2)


class ChannelNorm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Shrink(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm, self.conv = ChannelNorm(inputs, 1e-6), nn.Conv2d(inputs, outputs, 2, 2)

    def forward(self, x):
        return self.conv(self.norm(x))


class ConvNext(nn.Module):
    def __init__(self):
        super().__init__()
        wide, made = 96, []
        self.stem, self.stem_norm = nn.Conv2d(3, wide, 4, 4), ChannelNorm(wide, 1e-6)
        for stage, count in enumerate((3, 3, 9, 3)):
            if stage:
                made.append(Shrink(wide, 2 * wide))
                wide *= 2
            made += [ConvNextBlock(wide) for _ in range(count)]
        self.blocks = nn.Sequential(*made)
        self.norm, self.dense = nn.LayerNorm(wide, 1e-6), nn.Linear(wide, 10)

    def forward(self, x):
        return self.dense(self.norm(self.blocks(self.stem_norm(self.stem(x))).mean((2, 3))))
