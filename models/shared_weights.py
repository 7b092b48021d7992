"""Preparing the weights that a network uses repeatedly, for all of its operators at once.

Training a small network on a GPU is bound by the number of kernels. Weights that smoothing steps share are converted,
merged into wider groups and negated once per forward pass instead of once per use.

If activations are small, the gradients of all uses of a weight are computed as one (gathered_gradients.py). Otherwise
each use has an alias of its own of the result. So the gradients of the uses arrive one by one and are added up for all
operators together.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .foreach import add_all, copy_all, negate_all
from .gathered_gradients import GatheredGradient
from .layers import (
    Convolution,
    Kernel,
    ResidualOperator,
    Uses,
    diagonal_blocks,
    separate_blocks,
    trains_on_cpu,
)

GATHERED_VALUES = 2**21
"""Values of an input up to which gradients are gathered. Not measured yet.

Stacking copies the input and the gradient. At an H200's 4 TB/s two copies of this many values take 4 microseconds in
half precision. A convolution more takes 8 or so: the preparation of its workspace, two fills, and the gaps
(benchmarks/results/gpu_h200.md).
"""


class Shared(NamedTuple):
    """An operator that a pass uses several times, or whose weights are prepared together with those of such operators.

    Args:
        operator: a convolution.
        times: how often the pass uses it.
        level: the resolution level that it reads; on level 0 images have the size of the features of `prepare`.
    """

    operator: Convolution
    times: int
    level: int


def prepare(shared: Sequence[Shared], features: Tensor) -> Uses | None:
    """The weights for each use of these operators in a training pass over such features.

    Args:
        shared: operators, and how the pass uses each.
        features: of the finest level, N x c x h x w.

    Returns:
        None if the operators should prepare their weights themselves: in evaluation; on a CPU, which trains fastest
        with other weights; and in compiled networks, whose kernels the compiler fuses.
    """
    if not shared or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    first = shared[0].operator
    if not first.training or trains_on_cpu(first, features):
        return None
    device, dtype = features.device.type, features.dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    plans = [_plan(use, features) for use in shared]
    aliases = iter(_Aliases.apply(dtype, plans, *(use.operator.weight for use in shared)))
    uses = {}
    for (operator, times, _), plan in zip(shared, plans, strict=True):
        if plan.gradient is None:
            uses[operator] = [Kernel(next(aliases), plan.shape.remaining) for _ in range(times)]
        else:
            uses[operator] = [Kernel(next(aliases), plan.shape.remaining, plan.gradient)]
    return uses


class Merged(NamedTuple):
    """How groups of a convolution are computed.

    Args:
        groups: of the convolution.
        merged: number of groups that become one.
    """

    groups: int
    merged: int

    @property
    def remaining(self) -> int:
        """Number of groups after merging."""
        return self.groups // self.merged

    def own(self, weight: Tensor) -> Tensor:
        """A view of merged weights: those of the groups, without the zeros between them."""
        return weight if self.merged == 1 else diagonal_blocks(weight, self.groups, self.merged)

    def like_own(self, weight: Tensor) -> Tensor:
        """A view of weights that are not merged, in the shape of `own`."""
        return weight if self.merged == 1 else separate_blocks(weight, self.groups, self.merged)


class _Plan(NamedTuple):
    """How the weights of one operator are prepared.

    Args:
        shape: how its groups are computed.
        aliases: their number.
        negated: the pass uses -A.
        gradient: computes the gradient of all uses of the only alias; None: each use has its alias.
    """

    shape: Merged
    aliases: int
    negated: bool
    gradient: GatheredGradient | None


def _plan(use: Shared, features: Tensor) -> _Plan:
    operator = use.operator
    images, _, *size = features.shape
    pixels = images * prod(-(-length // 2**use.level) for length in size)
    shape = Merged(operator.groups, operator.groups_to_merge(features, pixels))
    negated = isinstance(operator, ResidualOperator)
    if use.times == 1 or pixels * operator.in_channels > GATHERED_VALUES:
        return _Plan(shape, use.times, negated, None)
    assert isinstance(operator.padding, tuple)  # nn.Conv2d takes words, too
    return _Plan(shape, 1, negated, GatheredGradient(operator.stride, operator.padding, shape.remaining))


class _Aliases(torch.autograd.Function):
    """For each of some weights as many aliases as it has uses, in another type, merged, and negated if asked for."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] - torch declares it with *args
        ctx: Any,
        dtype: torch.dtype,
        plans: list[_Plan],
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        shapes, counts = [plan.shape for plan in plans], [plan.aliases for plan in plans]
        negated = [plan.negated for plan in plans]
        ctx.shapes, ctx.counts, ctx.negated = shapes, counts, negated
        ctx.types, ctx.sizes = [weight.dtype for weight in weights], [weight.shape for weight in weights]
        ctx.set_materialize_grads(False)
        prepared = _room(weights, shapes, dtype)
        copy_all(
            [shape.own(wide) for wide, shape in zip(prepared, shapes, strict=True)],
            [shape.like_own(weight) for weight, shape in zip(weights, shapes, strict=True)],
        )
        negate_all([weight for weight, negate in zip(prepared, negated, strict=True) if negate])
        return tuple(weight.detach() for weight, count in zip(prepared, counts, strict=True) for _ in range(count))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        rest = iter(gradients)
        # The last use comes first, as in autograd's own sums.
        uses = [[g for g in [next(rest) for _ in range(count)][::-1] if g is not None] for count in ctx.counts]
        used = [index for index, found in enumerate(uses) if found]
        sums = {index: uses[index][0] for index in used}
        for use in range(1, max(map(len, uses))):
            again = [index for index in used if use < len(uses[index])]
            added = add_all([sums[index] for index in again], [uses[index][use] for index in again])
            sums |= dict(zip(again, added, strict=True))
        results = {index: _narrow(sums[index], ctx.sizes[index], ctx.types[index]) for index in used}
        copy_all(
            [ctx.shapes[index].like_own(result) for index, result in results.items()],
            [ctx.shapes[index].own(sums[index]) for index in used],
        )
        negate_all([results[index] for index in used if ctx.negated[index]])
        return None, None, *(results.get(index) for index in range(len(uses)))


def _room(weights: Sequence[Tensor], shapes: Sequence[Merged], dtype: torch.dtype) -> list[Tensor]:
    """Memory for the weights as they are used. Those that are merged are zero, all of them by one kernel."""
    counts = [
        shape.merged * weight.numel() if shape.merged > 1 else 0 for weight, shape in zip(weights, shapes, strict=True)
    ]
    zeros = torch.zeros(sum(counts), dtype=dtype, device=weights[0].device) if any(counts) else None
    room = []
    for weight, shape, count, end in zip(weights, shapes, counts, accumulate(counts), strict=True):
        if zeros is None or not count:
            room.append(torch.empty_like(weight, dtype=dtype))
            continue
        out, width, *kernel = weight.shape
        # In the layout channels_last.
        wide = zeros[end - count : end].view(out, *kernel, shape.merged * width)
        room.append(wide.permute(0, 3, 1, 2))
    return room


def _narrow(gradient: Tensor, size: torch.Size, dtype: torch.dtype) -> Tensor:
    """Memory for the gradient of weights, given that of the weights as they were used."""
    if gradient.shape == size:
        return torch.empty_like(gradient, dtype=dtype)
    return torch.empty(size, dtype=dtype, device=gradient.device, memory_format=torch.channels_last)
