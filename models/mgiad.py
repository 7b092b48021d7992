"""MGiaD: multigrid in all dimensions (van Betteray, Rottmann & Kahl 2022).

An MgNet whose smoother on every resolution level is a V-cycle over channel levels, the SiC block (smoothing in
channels). The cycle is a full approximation scheme. Its operators are linear, so the coarser levels need only
corrections and residuals: with r_k = f_k - A_k u_k,

    f_{k+1} - A_{k+1} u_{k+1} = P' r_k,   u_k <- u_k + P e,   r_k <- r_k - A_k P e,

where e is the difference between u_{k+1} after and before smoothing. So u_{k+1} = P' u_k is never computed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import ArchitectureConfig
from .layers import Convolution, ResidualOperator, Uses, changed, trains_on_cpu
from .mgnet import MultigridNet
from .smoothers import SharedSmoother, Smoother, SmoothingStep, Sum


def averages(channels: int, groups: int) -> Tensor:
    """P' as the weights of a 1x1 convolution: c/2 x c/groups x 1 x 1. c/groups must be even."""
    pairs = torch.eye(channels // groups // 2).repeat_interleave(2, dim=1)
    return 0.5 * pairs.repeat(groups, 1)[..., None, None]


def repeats(channels: int, groups: int) -> Tensor:
    """P as the weights of a 1x1 convolution: c x c/2/groups x 1 x 1. c/groups must be even."""
    return torch.eye(channels // groups // 2).repeat_interleave(2, dim=0).repeat(groups, 1)[..., None, None]


class FixedChannelTransfer(nn.Module):
    """The channel transfer without weights: P' averages adjacent pairs of channels, P repeats each channel twice.

    Training on a CPU uses convolutions with constant weights instead, because a CPU is slow at sums over pairs and at
    interleaved copies. Exports work on whole channels, since runtimes keep images channel after channel: transposing to
    pairs of neighbours and back took them longer than the transfer.

    Args:
        channels: channels of the finer level, an even number.
    """

    _averages: Tensor
    _repeats: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._groups = channels // math.gcd(channels, _CONSTANT_WIDTH)
        self.register_buffer("_averages", averages(channels, self._groups), persistent=False)
        self.register_buffer("_repeats", repeats(channels, self._groups), persistent=False)

    def restrict(self, residual: Tensor) -> Tensor:
        """N x c x h x w -> N x c/2 x h x w."""
        if trains_on_cpu(self, residual):
            return F.conv2d(residual, self._averages, groups=self._groups)
        if torch.compiler.is_exporting():
            return residual.unflatten(1, (-1, 2)).mean(dim=2)
        pairs = residual.permute(0, 2, 3, 1).unflatten(3, (-1, 2))
        return pairs.mean(dim=4).permute(0, 3, 1, 2)

    def prolong(self, correction: Tensor) -> Tensor:
        """N x c/2 x h x w -> N x c x h x w."""
        if trains_on_cpu(self, correction):
            return F.conv2d(correction, self._repeats, groups=self._groups)
        if torch.compiler.is_exporting():
            return correction.unsqueeze(2).expand(-1, -1, 2, -1, -1).flatten(1, 2)
        # NOTE: repeat_interleave would lose the channels_last layout, and later operations would be slower.
        twice = correction.permute(0, 2, 3, 1).unsqueeze(4).expand(-1, -1, -1, -1, 2)
        return twice.contiguous().flatten(3).permute(0, 3, 1, 2)


_CONSTANT_WIDTH = 64
"""Maximum number of channels of a group of these convolutions. Wider groups would mostly multiply by zero."""


class LearnedChannelTransfer(nn.Module):
    """P' and P as grouped 1x1 convolutions, as R and P of MGIC. They start as the fixed averages and repeats.

    The group size is even, so both channels of a pair lie in one group, and the convolutions can express the averages.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.restriction = Convolution(channels, channels // 2, kernel_size=1, groups=groups)
        self.prolongation = Convolution(channels // 2, channels, kernel_size=1, groups=groups)
        self.restriction.weight.data.copy_(averages(channels, groups))
        self.prolongation.weight.data.copy_(repeats(channels, groups))

    def restrict(self, residual: Tensor) -> Tensor:
        """N x c x h x w -> N x c/2 x h x w."""
        return self.restriction(residual)

    def prolong(self, correction: Tensor) -> Tensor:
        """N x c/2 x h x w -> N x c x h x w."""
        return self.prolongation(correction)


class ChannelCycle(Smoother):
    """One V-cycle over channel levels: smooth, correct from the coarser channel level, smooth.

    Shapes: features and residual are N x c_k x h x w. The 2 nu steps of a channel level share one A_k and one B_k,
    which are grouped convolutions. B_k may be a polynomial in A_k, as on an MgNet's levels. The coarsest level is fully
    coupled and smooths 2 nu times.

    Args:
        hierarchy: c_k, ..., c_K from this level to the coarsest, at least two.
        steps: nu, the steps before the correction and the steps after it.
        config: gives group size, kernel size, kind of smoother and kind of channel transfer.
        last: the residual after the cycle is not needed.
    """

    def __init__(self, hierarchy: tuple[int, ...], steps: int, config: ArchitectureConfig, last: bool) -> None:
        super().__init__()
        channels, coarser = hierarchy[0], hierarchy[1:]
        groups, kernel_size = config.groups(channels), config.kernel_size
        self.last = last
        self.a = ResidualOperator(channels, groups, kernel_size)
        self._degree = config.degree
        self.b = Convolution(channels, channels, kernel_size, groups=groups) if self._degree is None else None
        self.pre = nn.ModuleList(SmoothingStep(channels, self._degree) for _ in range(steps))
        self.post = nn.ModuleList(SmoothingStep(channels, self._degree) for _ in range(steps))
        learned = config.channel_transfer == "learned"
        self.transfer = LearnedChannelTransfer(channels, groups) if learned else FixedChannelTransfer(channels)
        self.coarse = channel_smoother(coarser, steps, config, last=True)

    def uses(self) -> list[tuple[Convolution, int]]:
        steps = len(self.pre) + len(self.post)
        own: list[tuple[Convolution, int]] = [(self.a, steps * (1 + (self._degree or 0)) + 1 - self.last)]
        if self.b is not None:
            own.append((self.b, steps))
        return [*own, *self.coarse.uses()]

    def forward(self, features: Tensor | None, residual: Tensor, uses: Uses | None = None) -> tuple[Tensor, Tensor]:
        total = Sum(features, self)
        a = self.a.repeatedly(residual, uses)
        b = None if self.b is None else self.b.repeatedly(residual, uses)
        change = None
        for step in self.pre:
            increment, same, residual = step(residual, change, b, a)
            total.add(increment)
            change = a(same)
        residual = changed(residual, change)
        correction, _ = self.coarse(None, self.transfer.restrict(residual), uses)
        correction = self.transfer.prolong(correction)
        total.add(correction)
        change = a(correction)
        for index, step in enumerate(self.post):
            increment, same, residual = step(residual, change, b, a)
            total.add(increment)
            change = a(same) if index + 1 < len(self.post) or not self.last else None
        return total.value, changed(residual, change)


def channel_smoother(hierarchy: tuple[int, ...], steps: int, config: ArchitectureConfig, last: bool) -> Smoother:
    """The SiC block over `hierarchy`. With a single channel level it is 2 nu ordinary smoothing steps."""
    if len(hierarchy) == 1:
        return SharedSmoother(hierarchy[0], 2 * steps, last=last, degree=config.degree)
    return ChannelCycle(hierarchy, steps, config, last)


def build_mgiad(config: ArchitectureConfig) -> MultigridNet:
    """The MGiaD that `config` describes."""
    hierarchies = iter(config.channel_hierarchies)
    return MultigridNet(
        config, lambda _channels, steps, _first, last: channel_smoother(next(hierarchies), steps, config, last)
    )
