"""Preparing the weights that a network uses repeatedly, for all of its operators at once.

Training a small network on a GPU is bound by the number of kernels. Weights that smoothing steps share are converted
and negated once per forward pass instead of once per use. Each use has an alias of its own of the result. So the
gradients of the uses arrive one by one and are added up for all operators together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .foreach import add_all, copy_all, negate_all
from .layers import Convolution, ResidualOperator, Uses, trains_on_cpu


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
    aliases = iter(_Aliases.apply(dtype, counts, negated, *(operator.weight for operator in operators)))
    return {operator: [next(aliases) for _ in range(count)] for operator, count in shared}


class _Aliases(torch.autograd.Function):
    """For each of some weights as many aliases as it has uses, in another type, and negated if asked for."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] - torch declares it with *args
        ctx: Any, dtype: torch.dtype, counts: list[int], negated: list[bool], *weights: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.counts, ctx.negated, ctx.types = counts, negated, [weight.dtype for weight in weights]
        ctx.set_materialize_grads(False)
        prepared = [torch.empty_like(weight, dtype=dtype) for weight in weights]
        copy_all(prepared, weights)
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
        results = [torch.empty_like(sums[index], dtype=ctx.types[index]) for index in used]
        copy_all(results, list(sums.values()))
        by_weight = dict(zip(used, results, strict=True))
        negate_all([by_weight[index] for index in used if ctx.negated[index]])
        return None, None, None, *(by_weight.get(index) for index in range(len(uses)))
