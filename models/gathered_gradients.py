"""The gradient of a weight that a forward pass uses several times, as one convolution.

The gradient of a convolution's weight is a sum over images and pixels. Of several uses it is therefore the gradient of
one convolution of all their inputs, stacked as images. On a GPU one convolution of more images takes much less time
than several small ones, each of which prepares its workspace, and no gradients are left to add up.

What is to be stacked stays in memory until it is. So there is a limit, beyond which the gradient of what is there is
computed and added up.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

LEFT_VALUES = 2**23
"""Values of inputs that wait, at which they are stacked: 16 MiB in half precision, and as much of gradients."""


class GatheredGradient:
    """Where the uses of a weight leave their inputs and the gradients of their outputs, until all of them have done so.

    NOTE: It must not hold the weight, nor a tensor with a history: the weight's own node holds this object, and a cycle
    would keep a step's memory until Python looks for cycles.

    Args:
        stride: of the convolution.
        padding: of the convolution.
        groups: of the convolution.
    """

    def __init__(self, stride: tuple[int, ...], padding: tuple[int, ...], groups: int) -> None:
        self._options = (stride, padding, groups)
        self._uses = 0
        self._left: dict[int, tuple[Tensor, Tensor]] = {}
        self._seen: set[int] = set()
        self._sum: Tensor | None = None

    def shared(self, weight: Tensor) -> Tensor:
        """The weight for all uses, out x in/groups x k x k, whose gradient is computed at once.

        Autograd goes back through nodes in the reverse order of their creation. So this is to be called just before the
        first use: then the gradient is computed before autograd goes on to what was before.
        """
        return _Weight.apply(weight, self)

    def convolution(self, features: Tensor, weight: Tensor) -> Tensor:
        """A use of a `shared` weight: N x in x h x w -> N x out x h/stride x w/stride."""
        self._uses += 1
        return _Use.apply(features.to(weight.dtype), weight, self, self._uses)

    def forward(self, features: Tensor, weight: Tensor) -> Tensor:
        """The convolution, without its history."""
        stride, padding, groups = self._options
        return F.conv2d(features, weight, None, stride, padding, 1, groups)

    def input_gradient(self, features: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
        """The gradient by `features`, given the one by the convolution's output."""
        return self._backward(features, weight, gradient, (True, False, False))[0]

    def leave(self, use: int, features: Tensor, gradient: Tensor, weight: Tensor) -> None:
        """Keep an input and the gradient by its output until there are many, or `weight_gradient` is called."""
        if use in self._seen:  # an earlier backward pass was for other gradients, and did not come to the weight
            self._forget()
        self._seen.add(use)
        self._left[use] = features.detach(), gradient
        if sum(waiting.numel() for waiting, _ in self._left.values()) >= LEFT_VALUES:
            self._add_up(weight)

    def weight_gradient(self, weight: Tensor) -> Tensor | None:
        """The gradient by the weight, over all uses that have left something since the last call; None if none has."""
        if self._left:
            self._add_up(weight)
        result = self._sum
        self._forget()
        return result

    def _add_up(self, weight: Tensor) -> None:
        alone = len(self._left) == 1
        features, gradients = (
            tensors[0] if alone else torch.cat(tensors) for tensors in zip(*self._left.values(), strict=True)
        )
        self._left.clear()
        gradient = self._backward(features, weight, gradients, (False, True, False))[1]
        self._sum = gradient if self._sum is None else self._sum + gradient

    def _forget(self) -> None:
        self._left.clear()
        self._seen.clear()
        self._sum = None

    def _backward(self, features: Tensor, weight: Tensor, gradient: Tensor, wanted: tuple[bool, ...]) -> Any:
        stride, padding, groups = self._options
        # What autograd calls for a convolution.
        return torch.ops.aten.convolution_backward(
            gradient, features, weight, None, stride, padding, (1, 1), False, (0, 0), groups, wanted
        )


class _Weight(torch.autograd.Function):
    """The weight that all uses share. Its gradient is computed when autograd has been through all of them."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, uses: GatheredGradient) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.uses = uses
        ctx.save_for_backward(weight)
        ctx.set_materialize_grads(False)
        return weight.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """`gradient` comes from what else has been done with the weight, as the scaled A of a polynomial."""
        gathered = ctx.uses.weight_gradient(*ctx.saved_tensors)
        if gradient is None or gathered is None:
            return gathered if gradient is None else gradient, None
        return gathered + gradient, None


class _Use(torch.autograd.Function):
    """A convolution that leaves what the gradient of its weight needs."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, uses: GatheredGradient, use: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.uses, ctx.use = uses, use
        ctx.save_for_backward(features, weight)
        return uses.forward(features, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        features, weight = ctx.saved_tensors
        if ctx.needs_input_grad[1]:
            ctx.uses.leave(ctx.use, features, gradient, weight)
        wanted = ctx.needs_input_grad[0]
        return ctx.uses.input_gradient(features, weight, gradient) if wanted else None, None, None, None
