"""MGIC: multigrid-in-channels (Eliasof, Ephrath, Ruthotto & Treister 2020), on a ResNet.

Each residual block is a V-cycle over channel levels of c, c/2, ... channels. The coarsest level is the first one with
fewer channels than the threshold. It has ordinary convolutions; the finer levels have grouped ones.
"""

from __future__ import annotations

from torch import Tensor, nn

from .config import ArchitectureConfig
from .layers import INCREMENT_SCALE, BatchNorm, Convolution, Head, Stem, rectified


class ResidualSmoother(nn.Module):
    """y = sigma(z + bn2(k2 sigma(bn1(k1 z)))): N x c x h x w -> the same shape."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.k1 = Convolution(channels, channels, groups=groups)
        self.bn1 = BatchNorm(channels)
        self.k2 = Convolution(channels, channels, groups=groups)
        self.bn2 = BatchNorm(channels)
        nn.init.constant_(self.bn2.weight, INCREMENT_SCALE)

    def forward(self, features: Tensor) -> Tensor:
        return rectified(self.bn2(self.k2(self.bn1.rectified(self.k1(features)))).add_(features))


class MGICBlock(nn.Module):
    """One V-cycle over channel levels: N x c x h x w -> the same shape (MGIC, Algorithm 1).

    Args:
        hierarchy: c_k, ..., c_K from this level to the coarsest.
        config: gives the group size.
    """

    def __init__(self, hierarchy: tuple[int, ...], config: ArchitectureConfig) -> None:
        super().__init__()
        channels, coarser = hierarchy[0], hierarchy[1:]
        groups = config.groups(channels) if coarser else 1
        self.smoother = ResidualSmoother(channels, groups)
        self.coarse = MGICBlock(coarser, config) if coarser else None
        if coarser:
            self.restriction = Convolution(channels, coarser[0], kernel_size=1, groups=groups)
            self.prolongation = Convolution(coarser[0], channels, kernel_size=1, groups=groups)
            self.bn = BatchNorm(channels)
            nn.init.constant_(self.bn.weight, INCREMENT_SCALE)

    def forward(self, features: Tensor) -> Tensor:
        if self.coarse is not None:
            restricted = self.restriction(features)
            correction = self.prolongation(self.coarse(restricted) - restricted)
            features = self.bn(correction).add_(features)
        return self.smoother(features)


def _downsampling(in_channels: int, out_channels: int) -> nn.Sequential:
    """The depthwise strided convolution that precedes the first cycle of a stage."""
    depthwise = Convolution(in_channels, out_channels, stride=2, groups=in_channels)
    return nn.Sequential(depthwise, BatchNorm(out_channels), nn.ReLU(inplace=True))


def build_mgic(config: ArchitectureConfig) -> nn.Sequential:
    """The MGIC-ResNet that `config` describes: N x in_channels x h x w images -> N x num_classes logits."""
    channels = config.channels
    net = nn.Sequential(Stem(config))
    for stage, hierarchy in enumerate(config.channel_hierarchies):
        if stage > 0:
            net.append(_downsampling(channels[stage - 1], channels[stage]))
        for _ in range(config.stage_blocks[stage]):
            net.append(MGICBlock(hierarchy, config))
    net.append(Head(channels[-1], config.num_classes))
    return net
