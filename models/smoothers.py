"""Smoothing on one level: the steps, and the smoothers of MgNet, with learned or polynomial B.

A smoother works on the features u and the data f of one level. One smoothing step is

    u <- u + d,  d = sigma(bn2(B sigma(bn1(f - A u))))          (MgNet, He & Xu 2019, eq. 3.2).

A step needs only the residual r = f - A u, not f itself. A is linear and has no bias, so with a shared A the step
updates the residual by r <- r - A d. The transfer to the next level is f' = R(f - A u) + A' u'. The next level
therefore starts with r' = f' - A' u' = R r, and neither f' nor A' u' is computed. The result equals that of the literal
algorithm up to rounding, with fewer convolutions.

B is a convolution of its own, or a polynomial in A as in classical smoothers (Poly-MgNet, van Betteray, Rottmann & Kahl
2025): B = p_d(A) = 1 + c_1 A + ... + c_d A^d. Each step has coefficients c_1, ..., c_d of its own, which are trained.
The constant is 1, because the batch norm after p_d(A) undoes any scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .layers import INCREMENT_SCALE, BatchNorm, Convolution, ResidualOperator, Uses, changed, trains_on_cpu

COEFFICIENT_START = 0.0
"""Initial value of the coefficients of p_d(A): every polynomial starts as the identity.

Of 200 random MgNets and MGiaDs with polynomials of degree 0 to 3 none diverged at a learning rate of 0.1 (two epochs on
512 images of digits, benchmarks/training/stability.py). Starts of 0.5 and -0.5 were as stable, and the mean loss of 40
of these networks was the same to 0.01.
"""

_FEW_STEPS = 16
"""Number of increments on a level up to which INCREMENT_SCALE holds.

With a higher limit training diverges; with a lower one networks learn less in few epochs.
"""

_LENGTH = 72 * 32
"""M sqrt(c) up to which INCREMENT_SCALE holds, of M increments on all levels and c channels on the widest.

Without this limit MGiaDs of 104 and 108 increments and 1,536 channels diverged (benchmarks/README.md, Stability). The
limit is not on M alone, because narrow networks of many increments are stable and learn less with smaller ones.
"""


class Smoothed(NamedTuple):
    """What a smoothing step makes.

    Args:
        increment: d.
        same: d for a second use, so that a GPU adds up the gradients of both uses where it computes with them.
        residual: r that the step has read.
    """

    increment: Tensor
    same: Tensor
    residual: Tensor


class SmoothingStep(nn.Module):
    """The increment d = sigma(bn2(B sigma(bn1(r)))) of one smoothing step; both batch norms belong to the step.

    Args:
        channels: c.
        degree: d of p_d(A) in place of B, whose coefficients belong to the step; None: B is an operator.
    """

    def __init__(self, channels: int, degree: int | None = None) -> None:
        super().__init__()
        self.bn1 = BatchNorm(channels)
        self.bn2 = BatchNorm(channels)
        # A vector, so that weight decay, which is for matrices, leaves it alone.
        self.coefficients = nn.Parameter(torch.full((degree,), COEFFICIENT_START)) if degree else None

    def forward(
        self,
        residual: Tensor,
        change: Tensor | None,
        b: Callable[[Tensor], Tensor] | None,
        a: Callable[..., Tensor] | None = None,
    ) -> Smoothed:
        """Smooth; all tensors are N x c x h x w.

        Args:
            residual: r before the change.
            change: what is to be added to it, in memory that nothing else needs; None: nothing.
            b: B; None: p_d(A).
            a: computes y - s A x of (x, y, scale=s); needed for d > 0.
        """
        residual, activated = self.bn1.rectified_sum(residual, change)
        increment, same = self.bn2.rectified_twice(b(activated) if b else self._polynomial(activated, a))
        return Smoothed(increment, same, residual)

    def _polynomial(self, features: Tensor, a: Callable[..., Tensor] | None) -> Tensor:
        """p_d(A) x by Horner's rule: v_d = c_d x, v_j = c_j x + A v_{j+1}, and v_0 = p_d(A) x with c_0 = 1.

        `a` subtracts, so what is computed is (-1)^j v_j.
        """
        if self.coefficients is None or a is None:
            return features
        signed = [-c if power % 2 else c for power, c in enumerate(self.coefficients.unbind(), start=1)]
        value, scale = features, signed.pop()
        while signed:
            value, scale = a(value, signed.pop() * features, scale=scale), None
        return a(value, features, scale=scale)


def scale_increments(levels: Sequence[nn.Module], channels: Sequence[int]) -> None:
    """Initialise the smoothing steps of all resolution levels so that the sums of their increments stay small.

    Increments come out of a ReLU, so they are not negative and do not cancel: the sum of N of them on a level grows
    as N. Each level starts from the features of the one before, so the length of the features of c channels that the
    head sees grows as M sqrt(c) in the number M of all increments. The scale is therefore proportional to 1/N for
    N > `_FEW_STEPS`, and to 1/(M sqrt(c)) where that is above `_LENGTH`.

    Args:
        levels: the smoothers.
        channels: of each level; c is the most of them.
    """
    steps = [[module for module in level.modules() if isinstance(module, SmoothingStep)] for level in levels]
    length = sum(map(len, steps)) * math.sqrt(max(channels))
    scale = INCREMENT_SCALE * min(1, _LENGTH / length)
    for of_level in steps:
        for step in of_level:
            nn.init.constant_(step.bn2.weight, scale * min(1, _FEW_STEPS / len(of_level)))


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
        shares_b: one B for all steps.
        last: nothing follows this level. The residual after the last step is then never computed. A single step has no
            A at all, unless its B is a polynomial in A: only the term A' u' of the transfer would use A, and that term
            cancels.
        degree: d of p_d(A) in place of B; None: B is an operator.
    """

    def __init__(
        self, channels: int, steps: int, shares_b: bool = True, last: bool = False, degree: int | None = None
    ) -> None:
        super().__init__()
        self.last = last
        self.steps = nn.ModuleList(SmoothingStep(channels, degree) for _ in range(steps))
        self._uses_of_a = steps - last + steps * (degree or 0)
        self.a = ResidualOperator(channels) if self._uses_of_a else None
        operators = 0 if degree is not None else 1 if shares_b else steps
        self.b = nn.ModuleList(Convolution(channels, channels) for _ in range(operators))

    def uses(self) -> list[tuple[Convolution, int]]:
        shared: list[tuple[Convolution, int]] = []
        if self.a is not None:
            shared.append((self.a, self._uses_of_a))
        if len(self.b) == 1:
            shared += [(b, len(self.steps)) for b in self.b if isinstance(b, Convolution)]
        return shared

    def forward(self, features: Tensor | None, residual: Tensor, uses: Uses | None = None) -> tuple[Tensor, Tensor]:
        total = Sum(features, self)
        a = None if self.a is None else self.a.repeatedly(residual, uses)
        b = [operator.repeatedly(residual, uses) for operator in self.b if isinstance(operator, Convolution)]
        change = None
        for index, step in enumerate(self.steps):
            increment, same, residual = step(residual, change, b[index % len(b)] if b else None, a)
            total.add(increment)
            change = a(same) if a is not None and (index + 1 < len(self.steps) or not self.last) else None
        return total.value, changed(residual, change)


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
            change = None
            if index > 0:
                residual, change = data, self.a[index - self.skipped](features)
            increment, _, residual = step(residual, change, self.b[index])
            features = increment if features is None else features + increment
        if not self.last:
            residual = self.a[-1](features, data)
        assert features is not None  # nu >= 1
        return features, residual
