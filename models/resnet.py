"""ResNet with basic blocks in its CIFAR form (He et al. 2016): 3x3 stem, 1x1 projection shortcuts, no max pool."""

from __future__ import annotations

from torch import Tensor, nn

from .config import ArchitectureConfig
from .layers import BatchNorm, Convolution, Head, Stem, rectified


class BasicBlock(nn.Module):
    """sigma(shortcut(x) + bn2(conv2 sigma(bn1(conv1 x)))): N x in x h x w -> N x out x h/stride x w/stride."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Convolution(in_channels, out_channels, stride=stride)
        self.bn1 = BatchNorm(out_channels)
        self.conv2 = Convolution(out_channels, out_channels)
        self.bn2 = BatchNorm(out_channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            projection = Convolution(in_channels, out_channels, kernel_size=1, stride=stride)
            self.shortcut = nn.Sequential(projection, BatchNorm(out_channels))

    def forward(self, features: Tensor) -> Tensor:
        increment = self.bn2(self.conv2(self.bn1.rectified(self.conv1(features))))
        return rectified(increment.add_(self.shortcut(features)))


def build_resnet(config: ArchitectureConfig) -> nn.Sequential:
    """The ResNet that `config` describes: N x in_channels x h x w images -> N x num_classes logits."""
    channels = config.channels
    net = nn.Sequential(Stem(config))
    for stage, out_channels in enumerate(channels):
        for block in range(config.stage_blocks[stage]):
            begins = block == 0 and stage > 0
            in_channels = channels[stage - 1] if begins else out_channels
            net.append(BasicBlock(in_channels, out_channels, stride=2 if begins else 1))
    net.append(Head(channels[-1], config.num_classes))
    return net
