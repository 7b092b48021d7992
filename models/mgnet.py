"""MgNet: a multigrid solver of A u = f read as a network (He & Xu, MgNet: A unified framework..., 2019).

MGiaD has the same frame and another smoother on each resolution level.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from .config import ArchitectureConfig
from .layers import Head, ResolutionTransfer, Stem
from .shared_weights import Shared, prepare
from .smoothers import SharedSmoother, Smoother, UnsharedSmoother, scale_increments


class MultigridNet(nn.Module):
    """A stem, one smoother per resolution level with transfers between the levels, and a head on the last features.

    Args:
        config: gives channels, transfers and classes.
        smoother: makes the smoother of a level from (channels, steps, first, last).
    """

    def __init__(self, config: ArchitectureConfig, smoother: Callable[[int, int, bool, bool], Smoother]) -> None:
        super().__init__()
        channels = config.channels
        final = len(channels) - 1
        self.stem = Stem(config)
        levels = [
            smoother(count, steps, level == 0, level == final)
            for level, (count, steps) in enumerate(zip(channels, config.steps, strict=True))
        ]
        scale_increments(levels, channels)
        transfers = [
            ResolutionTransfer(fine, coarse, config.resolution_transfer, config.residual_activation)
            for fine, coarse in pairwise(channels)
        ]
        self.levels, self.transfers = nn.ModuleList(levels), nn.ModuleList(transfers)
        self._shared = [Shared(*use, index) for index, level in enumerate(levels) for use in level.uses()]
        for index, transfer in enumerate(transfers):
            self._shared += [Shared(operator, 1, index) for operator in (transfer.pi, transfer.r)]
        self.head = Head(channels[-1], config.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """N x in_channels x h x w images -> N x num_classes logits."""
        features, residual = None, self.stem(images)
        uses = prepare(self._shared, residual)
        for level, smoother in enumerate(self.levels):
            features, residual = smoother(features, residual, uses)
            if level < len(self.transfers):
                features, residual = self.transfers[level](features, residual, uses)
        return self.head(features)


def build_mgnet(config: ArchitectureConfig) -> MultigridNet:
    """The MgNet that `config` describes; `config.sharing` says which operators its steps share.

    Polynomial smoothers share A.
    """

    def smoother(channels: int, steps: int, first: bool, last: bool) -> Smoother:
        if config.sharing == "none" and config.degree is None:
            return UnsharedSmoother(channels, steps, first, last)
        return SharedSmoother(channels, steps, config.sharing == "AB", last, config.degree)

    return MultigridNet(config, smoother)
