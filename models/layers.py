"""Building blocks that the multigrid families share: smoothing steps, smoothers, resolution transfers, stem, head.

A smoother works on features u and data f of one level. It never needs f itself, only the residual r = f - A u: all
operators are linear without bias, so one shared A turns

    u <- u + d,  d = sigma(bn2(B sigma(bn1(f - A u))))          (MgNet, He & Xu 2019, eq. 3.2)

into r <- r - A d. The transfer to the next level, f' = R(f - A u) + A' u', then starts it with r' = f' - A' u' = R r,
and neither f' nor A' u' is computed. Equal to the literal algorithm up to rounding, with fewer convolutions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INCREMENT_SCALE = 0.2
"""Initial weight of the batch norm that ends an increment.

With the default of 1.0 the increments of deep settings add up until training diverges at a learning rate of 0.1; at 0
the ReLU behind the batch norm would have no gradient.
"""

_FEW_STEPS = 16
"""Increments on a level that may add up at the full scale: more of them diverge, and fewer learn less in few epochs."""


def trains_on_cpu(module: nn.Module, features: Tensor) -> bool:
    """Whether to compute in the form that a CPU trains fastest; evaluated and exported, a network stays as it is."""
    return module.training and features.device.type == "cpu"


class Convolution(nn.Conv2d):
    """A convolution without bias that keeps the image size (stride 1) or halves it, rounding up (stride 2).

    A CPU trains groups of few channels faster when neighbouring groups are one wider group whose weights between its
    parts are zero, so that its channels fill a vector (`grouped_together`). The parameters stay those of the narrow
    groups, and the result is the same up to rounding.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, groups: int = 1
    ) -> None:
        padding = kernel_size // 2
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return self._apply_weight(features, self.weight)

    def _apply_weight(self, features: Tensor, weight: Tensor) -> Tensor:
        merged = self._groups_to_merge(features) if trains_on_cpu(self, features) else 1
        if merged > 1:
            weight = grouped_together(weight, self.groups, merged)
        return F.conv2d(features, weight, self.bias, self.stride, self.padding, 1, self.groups // merged)

    def _groups_to_merge(self, features: Tensor) -> int:
        """How many groups together have `_VECTOR_BYTES` of channels, or nearly so; a divisor of the groups."""
        half = torch.is_autocast_enabled("cpu") or features.dtype.itemsize == 2
        # oneDNN has a kernel of its own for depthwise convolutions; its backward pass is fast in float32 only.
        if not half and self.groups == self.in_channels == self.out_channels:
            return 1
        most = _VECTOR_BYTES // (2 if half else 4) * self.groups // self.in_channels
        return max((count for count in range(1, min(most, self.groups) + 1) if self.groups % count == 0), default=1)


_VECTOR_BYTES = 16
"""Wider groups cost more multiplications by zero than they save."""


def grouped_together(weight: Tensor, groups: int, merged: int) -> Tensor:
    """Weights of the same convolution in fewer, wider groups: block-diagonal, with zeros between the old groups.

    Args:
        weight: out x in/groups x k x k.
        groups: of the convolution.
        merged: how many groups become one; divides `groups`.

    Returns:
        out x (merged in/groups) x k x k, for groups / merged groups.
    """
    # NOTE: groups/merged x merged x out/groups x merged x in/groups x k x k.
    parts = weight.unflatten(0, (groups // merged, merged, -1)).unsqueeze(3)
    blocks = torch.eye(merged, dtype=weight.dtype, device=weight.device)[:, None, :, None, None, None]
    return (parts * blocks).reshape(len(weight), merged * weight.shape[1], *weight.shape[2:])


class SmoothingStep(nn.Module):
    """The increment d = sigma(bn2(B sigma(bn1(r)))) of one smoothing step; both batch norms belong to the step."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, residual: Tensor, b: nn.Module) -> Tensor:
        return rectified(self.bn2(b(rectified(self.bn1(residual)))))


def scale_increments(level: nn.Module) -> None:
    """Initialise the increments of all smoothing steps on a resolution level, so that together they stay small.

    Behind their ReLU they are not negative, so that they do not cancel: the sum of N of them grows as N, and beyond a
    few the scale falls as 1/N.
    """
    steps = [module for module in level.modules() if isinstance(module, SmoothingStep)]
    for step in steps:
        nn.init.constant_(step.bn2.weight, INCREMENT_SCALE * min(1, _FEW_STEPS / len(steps)))


# Training on a CPU is bound by memory: every fresh tensor costs a pass over it, and its pages. The three operations
# below work in place on a tensor that nothing else holds: a batch norm keeps its input for the backward pass but not
# its output, a convolution not its output, and an addition neither of its arguments.


def rectified(fresh: Tensor) -> Tensor:
    """sigma(x) in the memory of x, the output of a batch norm."""
    return F.relu_(fresh)


class ResidualOperator(Convolution):
    """A: r - A d or r + A d, in the memory of the convolution's output.

    Args:
        channels: c.
        groups: of the 3x3 convolution.
    """

    def __init__(self, channels: int, groups: int = 1) -> None:
        super().__init__(channels, channels, groups=groups)

    def forward(self, features: Tensor, residual: Tensor, add: bool = False) -> Tensor:
        # Negating the weights is cheaper than a pass over the output.
        return self._apply_weight(features, self.weight if add else -self.weight).add_(residual)


class Sum:
    """Adds up increments; the first two make the tensor that the others are added to in place.

    The first term itself stays as it is, because its ReLU needs it for the backward pass.
    """

    def __init__(self, start: Tensor | None) -> None:
        self.value = start
        self._own = False

    def add(self, term: Tensor) -> None:
        if self.value is None:
            self.value = term
        elif self._own:
            self.value += term
        else:
            self.value, self._own = self.value + term, True


class SharedSmoother(nn.Module):
    """nu smoothing steps of one level with a shared A, and B shared (`AB`) or one per step (`A`).

    Shapes: features u and residual r are N x c x h x w; u is None where the level starts from u = 0.

    Args:
        channels: c.
        steps: nu.
        groups: groups of A and B.
        shares_b: one B for all steps.
        last: nothing follows this level, so the residual behind the last step is never computed, and a single
            step has no A: it would only meet A' u' of the transfer, which cancels.
    """

    def __init__(self, channels: int, steps: int, groups: int = 1, shares_b: bool = True, last: bool = False) -> None:
        super().__init__()
        self.last = last
        self.steps = nn.ModuleList(SmoothingStep(channels) for _ in range(steps))
        self.a = None if last and steps == 1 else ResidualOperator(channels, groups)
        self.b = nn.ModuleList(Convolution(channels, channels, groups=groups) for _ in range(1 if shares_b else steps))

    def forward(self, features: Tensor | None, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Smooth; returns u and r (r is stale, and not to be used, if `last`)."""
        total = Sum(features)
        for index, step in enumerate(self.steps):
            increment = step(residual, self.b[index % len(self.b)])
            total.add(increment)
            if index + 1 < len(self.steps) or not self.last:
                residual = self.a(increment, residual)
        return total.value, residual


class UnsharedSmoother(nn.Module):
    """nu smoothing steps of one level, each with its own A and B (sharing `none`: the ResNet picture).

    The operators differ from step to step, so f is needed: f = r + A_1 u on entry. The transfer to the next level
    uses the last step's A. On the finest level u = 0 before the first step, which has no A there.

    Args:
        channels: c.
        steps: nu.
        first: the level starts from u = 0.
        last: nothing follows this level (see SharedSmoother).
    """

    def __init__(self, channels: int, steps: int, first: bool = False, last: bool = False) -> None:
        super().__init__()
        self.last = last
        count = max(steps - 1, 0 if last else 1) if first else (0 if last and steps == 1 else steps)
        self.skipped = steps - count
        self.steps = nn.ModuleList(SmoothingStep(channels) for _ in range(steps))
        self.a = nn.ModuleList(ResidualOperator(channels) for _ in range(count))
        self.b = nn.ModuleList(Convolution(channels, channels) for _ in range(steps))

    def forward(self, features: Tensor | None, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Smooth; returns u and r (r is stale, and not to be used, if `last`)."""
        data = residual if features is None or not self.a else self.a[0](features, residual, add=True)
        for index, step in enumerate(self.steps):
            if index > 0:
                residual = self.a[index - self.skipped](features, data)
            increment = step(residual, self.b[index])
            features = increment if features is None else features + increment
        if not self.last:
            residual = self.a[-1](features, data)
        return features, residual


class ResolutionTransfer(nn.Module):
    """Pi and R from one resolution level to the next: u' = Pi u and r' = R r.

    `depthwise` (van Betteray et al. 2022): one strided 3x3 filter per output channel, groups = channels of the finer
    level. `dense` (He & Xu's code): strided 3x3 convolutions, each followed by batch norm and ReLU.
    """

    def __init__(self, in_channels: int, out_channels: int, kind: str) -> None:
        super().__init__()
        groups = in_channels if kind == "depthwise" else 1
        self.pi = Convolution(in_channels, out_channels, stride=2, groups=groups)
        self.r = Convolution(in_channels, out_channels, stride=2, groups=groups)
        self.pi_bn = nn.BatchNorm2d(out_channels) if kind == "dense" else None
        self.r_bn = nn.BatchNorm2d(out_channels) if kind == "dense" else None

    def forward(self, features: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        features, residual = self.pi(features), self.r(residual)
        if self.pi_bn is not None:
            features, residual = rectified(self.pi_bn(features)), rectified(self.r_bn(residual))
        return features, residual


class Stem(nn.Sequential):
    """f_1 = sigma(bn(conv3x3(image))): N x in_channels x h x w -> N x channels x h x w."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(Convolution(in_channels, channels), nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


class Head(nn.Module):
    """Global average pool and a linear layer with bias: N x channels x h x w -> N x num_classes logits."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(torch.mean(features, dim=(2, 3)))
