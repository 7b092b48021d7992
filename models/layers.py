"""Building blocks that the multigrid families share: smoothing steps, smoothers, resolution transfers, stem, head.

A smoother works on the features u and the data f of one level. One smoothing step is

    u <- u + d,  d = sigma(bn2(B sigma(bn1(f - A u))))          (MgNet, He & Xu 2019, eq. 3.2).

A step needs only the residual r = f - A u, not f itself. A is linear and has no bias, so with a shared A the step
updates the residual by r <- r - A d. The transfer to the next level is f' = R(f - A u) + A' u'. The next level
therefore starts with r' = f' - A' u' = R r, and neither f' nor A' u' is computed. The result equals that of the literal
algorithm up to rounding, with fewer convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INCREMENT_SCALE = 0.2
"""Initial weight of the batch norm that ends an increment.

With the default of 1.0 the increments of deep networks add up until training diverges at a learning rate of 0.1. With
0 the ReLU after the batch norm would have no gradient.
"""

_FEW_STEPS = 16
"""Number of increments on a level up to which INCREMENT_SCALE holds.

With a higher limit training diverges; with a lower one networks learn less in few epochs.
"""


def trains_on_cpu(module: nn.Module, features: Tensor) -> bool:
    """Whether to compute in the form that trains fastest on a CPU. Evaluation and export use the plain form."""
    return module.training and features.device.type == "cpu"


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that does not count its batches: the count has no use, and costs a kernel in every pass."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.num_batches_tracked = None

    # Only this method, which torch documents for overriding, can ignore a key. Files of version 0.1.0 hold the count.
    def _load_from_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride] - all arguments are positional
        self, state_dict: dict[str, Any], prefix: str, metadata: dict[str, Any], *arguments: Any
    ) -> None:
        state_dict.pop(f"{prefix}num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, {**metadata, "version": self._version}, *arguments)


class Kernel(NamedTuple):
    """The weights of a convolution in the form in which one forward pass uses them.

    Args:
        weight: in the type that the pass computes in.
        groups: number of groups that the weight is for.
    """

    weight: Tensor
    groups: int


class Convolution(nn.Conv2d):
    """A convolution without bias that keeps the image size (stride 1) or halves it, rounding up (stride 2).

    In training on a CPU, neighbouring groups of few channels are computed as one wider group (`grouped_together`). The
    weights between the parts of the wider group are zero. This is faster, because the channels then fill a vector
    register. The parameters stay those of the narrow groups, and the result is the same up to rounding.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, groups: int = 1
    ) -> None:
        padding = kernel_size // 2
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)

    def forward(self, input: Tensor, kernel: Kernel | None = None) -> Tensor:  # noqa: A002 - nn.Conv2d's name
        """N x in x h x w -> N x out x h/stride x w/stride. `kernel`: weights that this pass has prepared."""
        weight, groups = kernel or self.kernel(input)
        return F.conv2d(input, weight, self.bias, self.stride, self.padding, 1, groups)

    def repeatedly(self, features: Tensor, uses: Uses | None) -> Callable[..., Tensor]:
        """This convolution for several calls in one forward pass, on such features. Its weights are prepared once.

        Args:
            features: of the pass.
            uses: the weights that were prepared together with those of other convolutions.
        """
        prepared = uses.get(self) if uses else None
        if prepared is None:
            return partial(self, kernel=self._shared_kernel(features))
        weights = iter(prepared)
        return lambda *inputs: self(*inputs, kernel=Kernel(next(weights), self.groups))

    def _shared_kernel(self, features: Tensor) -> Kernel:
        return self.kernel(features)

    def kernel(self, features: Tensor) -> Kernel:
        """The weights in the type that a pass over such features computes in, in merged groups if that is faster."""
        weight, device = self.weight, features.device.type
        if torch.is_autocast_enabled(device):
            weight = weight.to(torch.get_autocast_dtype(device))
        merged = self._groups_to_merge(features) if trains_on_cpu(self, features) else 1
        if merged > 1:
            weight = grouped_together(weight, self.groups, merged)
        return Kernel(weight, self.groups // merged)

    def _groups_to_merge(self, features: Tensor) -> int:
        """Number of groups to merge into one, a divisor of `groups`: as many as fit into `_VECTOR_BYTES`."""
        half = torch.is_autocast_enabled("cpu") or features.dtype.itemsize == 2
        # oneDNN has a special kernel for depthwise convolutions, whose backward pass is fast in float32 only.
        if not half and self.groups == self.in_channels == self.out_channels:
            return 1
        limit = _VECTOR_BYTES // (2 if half else 4) * self.groups // self.in_channels
        return max((count for count in range(1, min(limit, self.groups) + 1) if self.groups % count == 0), default=1)


_VECTOR_BYTES = 16
"""Bytes of channels of a merged group. Wider groups lose more time to multiplications by zero than they save."""


def grouped_together(weight: Tensor, groups: int, merged: int) -> Tensor:
    """Weights of the same convolution in fewer, wider groups: block-diagonal, with zeros between the old groups.

    Args:
        weight: out x in/groups x k x k.
        groups: of the convolution.
        merged: number of groups that become one; it divides `groups`.

    Returns:
        out x (merged in/groups) x k x k, for groups / merged groups.
    """
    # Shape: groups/merged x merged x out/groups x merged x in/groups x k x k.
    parts = weight.unflatten(0, (groups // merged, merged, -1)).unsqueeze(3)
    blocks = torch.eye(merged, dtype=weight.dtype, device=weight.device)[:, None, :, None, None, None]
    return (parts * blocks).reshape(len(weight), merged * weight.shape[1], *weight.shape[2:])


Uses = Mapping[Convolution, Sequence[Tensor]]
"""Weights for each use of a convolution in one forward pass: -A or B of the type in which the pass computes."""


class SmoothingStep(nn.Module):
    """The increment d = sigma(bn2(B sigma(bn1(r)))) of one smoothing step; both batch norms belong to the step."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn1 = BatchNorm(channels)
        self.bn2 = BatchNorm(channels)

    def forward(self, residual: Tensor, b: Callable[[Tensor], Tensor]) -> Tensor:
        return rectified(self.bn2(b(rectified(self.bn1(residual)))))


def scale_increments(level: nn.Module) -> None:
    """Initialise the smoothing steps of a resolution level so that the sum of their increments stays small.

    Increments come out of a ReLU, so they are not negative and do not cancel: the sum of N of them grows as N. The
    scale is therefore proportional to 1/N for N > `_FEW_STEPS`.
    """
    steps = [module for module in level.modules() if isinstance(module, SmoothingStep)]
    for step in steps:
        nn.init.constant_(step.bn2.weight, INCREMENT_SCALE * min(1, _FEW_STEPS / len(steps)))


# Training on a CPU is bound by memory: every new tensor costs a pass over it, and its pages. The three operations below
# work in place on a tensor that nothing else needs. For the backward pass a batch norm keeps its input but not its
# output, a convolution does not keep its output, and an addition keeps neither of its arguments.


def rectified(fresh: Tensor) -> Tensor:
    """sigma(x) in the memory of x, the output of a batch norm."""
    return F.relu_(fresh)


class ResidualOperator(Convolution):
    """The operator A: computes r - A d or r + A d, in the memory of the convolution's output.

    Args:
        channels: c.
        groups: number of groups of the 3x3 convolution.
    """

    def __init__(self, channels: int, groups: int = 1) -> None:
        super().__init__(channels, channels, groups=groups)

    # A residual operator is never called as a plain convolution; being one keeps the parameter's name, `a.weight`.
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, features: Tensor, residual: Tensor, add: bool = False, kernel: Kernel | None = None
    ) -> Tensor:
        if kernel is None:
            kernel = self.kernel(features) if add else self.negated(features)
        return super().forward(features, kernel).add_(residual)

    def _shared_kernel(self, features: Tensor) -> Kernel:
        return self.negated(features)

    def negated(self, features: Tensor) -> Kernel:
        """-A. Negating the weights is cheaper than a pass over the output."""
        weight, groups = self.kernel(features)
        return Kernel(-weight, groups)


_FEW_VALUES = 2**19
"""Values of an increment up to which a GPU takes longer to start a kernel than to copy the increment."""


class Sum:
    """A running sum of increments.

    The second term makes a new tensor, and further terms are added to it in place. The first term is not changed,
    because its ReLU needs it for the backward pass.

    In training on a GPU, small terms are added at the end, in two kernels. They are in memory until the backward pass
    anyway.

    Args:
        start: the first term, or None.
        module: to whose forward pass the sum belongs.
    """

    def __init__(self, start: Tensor | None, module: nn.Module) -> None:
        self._terms = [] if start is None else [start]
        self._module, self._own = module, False

    def add(self, term: Tensor) -> None:
        together = self._module.training and not trains_on_cpu(self._module, term) and term.numel() <= _FEW_VALUES
        if together or not self._terms:
            self._terms.append(term)
        elif self._own:
            self._terms[0] += term
        else:
            self._terms[0], self._own = self._terms[0] + term, True

    @property
    def value(self) -> Tensor:
        """The sum of one or more terms."""
        if len(self._terms) == 2:
            return self._terms[0] + self._terms[1]
        return self._terms[0] if len(self._terms) == 1 else torch.stack(self._terms).sum(dim=0)


class Smoother(nn.Module):
    """The smoothing of one resolution level.

    Shapes: features u and residual r are N x c x h x w. u is None if the level starts from u = 0.
    """

    def uses(self) -> list[tuple[Convolution, int]]:
        """The operators that a forward pass uses several times in the same form, and how often."""
        return []

    def forward(self, features: Tensor | None, residual: Tensor, uses: Uses | None = None) -> tuple[Tensor, Tensor]:
        """Smooth. Returns u and r; if nothing follows the level, r is out of date and must not be used."""
        raise NotImplementedError


class SharedSmoother(Smoother):
    """nu smoothing steps of one level with a shared A. B is shared too (`AB`), or there is one B per step (`A`).

    Args:
        channels: c.
        steps: nu.
        groups: number of groups of A and B.
        shares_b: one B for all steps.
        last: nothing follows this level. The residual after the last step is then never computed. A single step has no
            A at all, because only the term A' u' of the transfer would use it, and that term cancels.
    """

    def __init__(self, channels: int, steps: int, groups: int = 1, shares_b: bool = True, last: bool = False) -> None:
        super().__init__()
        self.last = last
        self.steps = nn.ModuleList(SmoothingStep(channels) for _ in range(steps))
        self.a = None if last and steps == 1 else ResidualOperator(channels, groups)
        self.b = nn.ModuleList(Convolution(channels, channels, groups=groups) for _ in range(1 if shares_b else steps))

    def uses(self) -> list[tuple[Convolution, int]]:
        shared: list[tuple[Convolution, int]] = []
        if self.a is not None:
            shared.append((self.a, len(self.steps) - self.last))
        if len(self.b) == 1:
            shared += [(b, len(self.steps)) for b in self.b if isinstance(b, Convolution)]
        return shared

    def forward(self, features: Tensor | None, residual: Tensor, uses: Uses | None = None) -> tuple[Tensor, Tensor]:
        total = Sum(features, self)
        a = None if self.a is None else self.a.repeatedly(residual, uses)
        b = [operator.repeatedly(residual, uses) for operator in self.b if isinstance(operator, Convolution)]
        for index, step in enumerate(self.steps):
            increment = step(residual, b[index % len(b)])
            total.add(increment)
            if a is not None and (index + 1 < len(self.steps) or not self.last):
                residual = a(increment, residual)
        return total.value, residual


class UnsharedSmoother(Smoother):
    """nu smoothing steps of one level, each with its own A and B (sharing `none`, as in a ResNet).

    The operators differ from step to step, so f is needed. On entry it is f = r + A_1 u. The transfer to the next level
    uses the A of the last step. On the finest level the first step has no A, because u = 0 before it.

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

    def forward(self, features: Tensor | None, residual: Tensor, uses: Uses | None = None) -> tuple[Tensor, Tensor]:
        data = residual if features is None or not self.a else self.a[0](features, residual, add=True)
        for index, step in enumerate(self.steps):
            if index > 0:
                residual = self.a[index - self.skipped](features, data)
            increment = step(residual, self.b[index])
            features = increment if features is None else features + increment
        if not self.last:
            residual = self.a[-1](features, data)
        assert features is not None  # nu >= 1
        return features, residual


class ResolutionTransfer(nn.Module):
    """Pi and R from one resolution level to the next: u' = Pi u and r' = R r.

    `depthwise` (van Betteray et al. 2022): strided 3x3 convolutions with one filter per output channel; the number of
    groups is the number of channels of the finer level. `dense` (He & Xu's code): strided 3x3 convolutions, each
    followed by batch norm and ReLU.
    """

    def __init__(self, in_channels: int, out_channels: int, kind: str) -> None:
        super().__init__()
        groups = in_channels if kind == "depthwise" else 1
        self.pi = Convolution(in_channels, out_channels, stride=2, groups=groups)
        self.r = Convolution(in_channels, out_channels, stride=2, groups=groups)
        self.pi_bn = BatchNorm(out_channels) if kind == "dense" else None
        self.r_bn = BatchNorm(out_channels) if kind == "dense" else None

    def forward(self, features: Tensor, residual: Tensor, uses: Uses | None = None) -> tuple[Tensor, Tensor]:
        features, residual = self.pi.repeatedly(features, uses)(features), self.r.repeatedly(residual, uses)(residual)
        if self.pi_bn is not None and self.r_bn is not None:
            features, residual = rectified(self.pi_bn(features)), rectified(self.r_bn(residual))
        return features, residual


class Stem(nn.Sequential):
    """f_1 = sigma(bn(conv3x3(image))): N x in_channels x h x w -> N x channels x h x w."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(Convolution(in_channels, channels), BatchNorm(channels), nn.ReLU(inplace=True))


class Head(nn.Module):
    """Global average pool and a linear layer with bias: N x channels x h x w -> N x num_classes logits."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(torch.mean(features, dim=(2, 3)))
