"""Preparing the weights that a network uses repeatedly, for all of its operators at once.

Training a small network on a GPU is bound by the number of kernels. Weights that smoothing steps share are converted,
merged into wider groups and negated once per forward pass instead of once per use. Each use has an alias of its own of
the result. So the gradients of the uses arrive one by one and are added up for all operators together.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .foreach import add_all, copy_all, negate_all
from .layers import (
    Convolution,
    Kernel,
    ResidualOperator,
    Uses,
    diagonal_blocks,
    separate_blocks,
    trains_on_cpu,
)


def prepare(shared: Sequence[tuple[Convolution, int]], features: Tensor) -> Uses | None:
    """The weights for each use of these operators in a training pass over such features.

    Args:
        shared: operators, and how often the pass uses each.
        features: of the pass.

    Returns:
        None if the operators should prepare their weights themselves: in evaluation; on a CPU, which trains fastest
        with other weights; and in compiled networks, whose kernels the compiler fuses.
    """
    if not shared or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    operators = [operator for operator, _ in shared]
    if not operators[0].training or trains_on_cpu(operators[0], features):
        return None
    device, dtype = features.device.type, features.dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    counts = [count for _, count in shared]
    negated = [isinstance(operator, ResidualOperator) for operator in operators]
    shapes = [Merged(operator.groups, operator.groups_to_merge(features)) for operator in operators]
    aliases = iter(_Aliases.apply(dtype, counts, negated, shapes, *(operator.weight for operator in operators)))
    return {
        operator: [Kernel(next(aliases), shape.groups // shape.merged) for _ in range(count)]
        for (operator, count), shape in zip(shared, shapes, strict=True)
    }


class Merged(NamedTuple):
    """How groups of a convolution are computed.

    Args:
        groups: of the convolution.
        merged: number of groups that become one.
    """

    groups: int
    merged: int

    def own(self, weight: Tensor) -> Tensor:
        """A view of merged weights: those of the groups, without the zeros between them."""
        return weight if self.merged == 1 else diagonal_blocks(weight, self.groups, self.merged)

    def like_own(self, weight: Tensor) -> Tensor:
        """A view of weights that are not merged, in the shape of `own`."""
        return weight if self.merged == 1 else separate_blocks(weight, self.groups, self.merged)


class _Aliases(torch.autograd.Function):
    """For each of some weights as many aliases as it has uses, in another type, merged, and negated if asked for."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] - torch declares it with *args
        ctx: Any,
        dtype: torch.dtype,
        counts: list[int],
        negated: list[bool],
        shapes: list[Merged],
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.counts, ctx.negated, ctx.shapes = counts, negated, shapes
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
        return None, None, None, None, *(results.get(index) for index in range(len(uses)))


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
