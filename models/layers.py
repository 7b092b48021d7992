"""Building blocks that the families share: convolutions, batch norms, resolution transfers, stem, head."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mgnas.errors import first_line

from .config import ArchitectureConfig
from .gathered_gradients import GatheredGradient

logger = logging.getLogger(__name__)

INCREMENT_SCALE = 0.2
"""Initial weight of the batch norm that ends an increment.

With the default of 1.0 the increments of deep networks add up until training diverges at a learning rate of 0.1. With
0 the ReLU after the batch norm would have no gradient.
"""


def trains_on_cpu(module: nn.Module, features: Tensor) -> bool:
    """Whether to compute in the form that trains fastest on a CPU. Evaluation and export use the plain form."""
    return module.training and features.device.type == "cpu"


@lru_cache(maxsize=1)
def fused_batch_norm() -> Callable[..., Any] | None:
    """batch_norm_kernels.BatchNormReLU.apply, or None if kernels cannot be compiled for this machine's GPU.

    Triton is part of PyTorch's builds for NVIDIA GPUs. It needs a C compiler when a kernel is first used.
    """
    if not torch.cuda.is_available():
        return None
    try:
        from .batch_norm_kernels import BatchNormReLU

        image, one, zero = torch.ones(1, 1, 1, 1, device="cuda"), *torch.eye(2, 1, device="cuda").unbind()
        BatchNormReLU.apply(image, None, one, zero, zero.clone(), one.clone(), 0.1, 1e-5)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        logger.warning("training is slower than it could be: Triton does not work here (%s)", first_line(error))
        return None
    return BatchNormReLU.apply


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that does not count its batches: the count has no use, and costs a kernel in every pass."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.num_batches_tracked = None

    def rectified(self, features: Tensor) -> Tensor:
        """sigma(bn(x)), of the shape of x. In training on a GPU special kernels compute it (batch_norm_kernels.py)."""
        return self.rectified_twice(features)[0]

    def rectified_twice(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """sigma(bn(x)) for two uses, whose gradients the special kernels add up."""
        fused = self._fused(features)
        if fused is None:
            value = rectified(self(features))
            return value, value
        return fused(features, None)[:2]

    def rectified_sum(self, residual: Tensor, change: Tensor | None) -> tuple[Tensor, Tensor]:
        """(r', sigma(bn(r'))) with r' = r + change, or r' = r. The memory of `change` may be that of r' afterwards."""
        fused = None if change is None else self._fused(change)
        if change is None or fused is None:
            residual = changed(residual, change)
            return residual, self.rectified(residual)
        value, _, residual = fused(change, residual)
        return residual, value

    def _fused(self, features: Tensor) -> Callable[..., Any] | None:
        """batch_norm_kernels.BatchNormReLU of (x, y), or None if it cannot be used."""
        fused = fused_batch_norm() if self._can_be_fused(features) else None
        if fused is None:
            return None
        parameters = self.weight, self.bias, self.running_mean, self.running_var, self.momentum, self.eps
        return lambda x, y: fused(x, y, *parameters)

    def _can_be_fused(self, features: Tensor) -> bool:
        return (
            not torch.compiler.is_compiling()
            and self.training
            and features.is_cuda
            and features.dtype in (torch.float32, torch.bfloat16, torch.float16)
            and features.is_contiguous(memory_format=torch.channels_last)
        )

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
        gathered: computes the weight's gradient for all of its uses at once; None: autograd does for each.
    """

    weight: Tensor
    groups: int
    gathered: GatheredGradient | None = None


class Convolution(nn.Conv2d):
    """A convolution without bias, padded so that it divides the image size by its stride, rounding up.

    In training, neighbouring groups of few channels are computed as one wider group (`grouped_together`). The weights
    between the parts of the wider group are zero. This is faster, because the channels then fill a vector register of
    a CPU or a tile of a GPU's matrix units. The parameters stay those of the narrow groups, and the result is the same
    up to rounding.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, groups: int = 1
    ) -> None:
        padding = kernel_size // 2
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)

    def forward(self, input: Tensor, kernel: Kernel | None = None) -> Tensor:  # noqa: A002 - nn.Conv2d's name
        """N x in x h x w -> N x out x h/stride x w/stride. `kernel`: weights that this pass has prepared."""
        weight, groups, gathered = kernel or self.kernel(input)
        if gathered is not None:
            return gathered.convolution(input, weight)
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
        kernel = prepared[0]
        if kernel.gathered is not None:
            return partial(self, kernel=kernel._replace(weight=kernel.gathered.shared(kernel.weight)))
        kernels = iter(prepared)
        return lambda *inputs, **more: self(*inputs, kernel=next(kernels), **more)

    def _shared_kernel(self, features: Tensor) -> Kernel:
        return self.kernel(features)

    def kernel(self, features: Tensor) -> Kernel:
        """The weights in the type that a pass over such features computes in, in merged groups if that is faster."""
        weight, device = self.weight, features.device.type
        if torch.is_autocast_enabled(device):
            weight = weight.to(torch.get_autocast_dtype(device))
        merged = self.groups_to_merge(features)
        if merged > 1:
            weight = grouped_together(weight, self.groups, merged)
        return Kernel(weight, self.groups // merged)

    def groups_to_merge(self, features: Tensor, pixels: int | None = None) -> int:
        """Number of groups that a training pass over such features makes one, a divisor of `groups`.

        Args:
            features: N x in x h x w.
            pixels: N h w, if the features are those of another layer of the pass.
        """
        if not self.training or self.groups == 1:
            return 1
        if trains_on_cpu(self, features):
            channels = self._cpu_channels(features)
        else:
            channels = self._gpu_channels(pixels or features[:, 0].numel())
        limit = channels * self.groups // self.in_channels
        return max((count for count in range(1, min(limit, self.groups) + 1) if self.groups % count == 0), default=1)

    def _cpu_channels(self, features: Tensor) -> int:
        """Channels of a merged group on a CPU."""
        half = torch.is_autocast_enabled("cpu") or features.dtype.itemsize == 2
        # oneDNN has a special kernel for depthwise convolutions, whose backward pass is fast in float32 only.
        if not half and self.groups == self.in_channels == self.out_channels:
            return 0
        return _VECTOR_BYTES // (2 if half else 4)

    def _gpu_channels(self, pixels: int) -> int:
        """Channels of a merged group on a GPU."""
        if self.groups == self.in_channels:
            return _GPU_DEPTHWISE_CHANNELS
        is_narrow = self.in_channels // self.groups < _GPU_WIDE
        return _GPU_CHANNELS if is_narrow and pixels >= _GPU_MANY_PIXELS else 0


_VECTOR_BYTES = 16
"""Bytes of channels of a merged group on a CPU. Wider groups lose more by multiplications by zero than they save."""

_GPU_DEPTHWISE_CHANNELS = 64
_GPU_CHANNELS = 32
_GPU_WIDE = 16
_GPU_MANY_PIXELS = 16_384
"""On a GPU depthwise convolutions are merged into groups of 64 channels, because cuDNN's kernels for them are slow.

Other groups of fewer than 16 channels are merged into groups of 32 if all images of a batch have this number of pixels
or more. For wider groups or fewer pixels cuDNN's own kernels are faster (benchmarks/results/gpu_h200.md).
"""


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


def diagonal_blocks(weight: Tensor, groups: int, merged: int) -> Tensor:
    """A view of the groups' own weights in merged ones: groups/merged x out/groups x in/groups x k x k x merged.

    Args:
        weight: merged weights, out x (merged in/groups) x k x k.
        groups: of the convolution, before merging.
        merged: number of groups that have become one.
    """
    parts = weight.unflatten(1, (merged, -1)).unflatten(0, (groups // merged, merged, -1))
    return parts.diagonal(dim1=1, dim2=3)


def separate_blocks(weight: Tensor, groups: int, merged: int) -> Tensor:
    """A view of weights that are not merged, out x in/groups x k x k, in the shape of `diagonal_blocks`."""
    return weight.unflatten(0, (groups // merged, merged, -1)).movedim(1, -1)


Uses = Mapping[Convolution, Sequence[Kernel]]
"""Weights for the uses of a convolution in one forward pass: -A or B of the type in which the pass computes.

There is one for each use, or a single one for all if their gradients are gathered.
"""


# Training on a CPU is bound by memory: every new tensor costs a pass over it, and its pages. The three operations below
# work in place on a tensor that nothing else needs. For the backward pass a batch norm keeps its input but not its
# output, a convolution does not keep its output, and an addition keeps neither of its arguments.


def rectified(fresh: Tensor) -> Tensor:
    """sigma(x) in the memory of x, which is the output of a batch norm, or a residual that nothing else needs."""
    return F.relu_(fresh)


def changed(residual: Tensor, change: Tensor | None) -> Tensor:
    """r + change, in the memory of `change`."""
    return residual if change is None else change.add_(residual)


class ResidualOperator(Convolution):
    """The operator A: computes r - A d or r + A d, in the memory of the convolution's output.

    Args:
        channels: c.
        groups: number of groups of the convolution.
        kernel_size: pixels per side of its kernels.
    """

    def __init__(self, channels: int, groups: int = 1, kernel_size: int = 3) -> None:
        super().__init__(channels, channels, kernel_size, groups=groups)

    # A residual operator is never called as a plain convolution; being one keeps the parameter's name, `a.weight`.
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        features: Tensor,
        residual: Tensor | None = None,
        add: bool = False,
        kernel: Kernel | None = None,
        scale: Tensor | None = None,
    ) -> Tensor:
        """r - A d, or r + A d with `add`.

        Args:
            features: d, N x c x h x w.
            residual: r, of the same shape; None: 0.
            add: add A d.
            kernel: -A, or A with `add`, if this pass has prepared it.
            scale: a number that multiplies A.
        """
        if kernel is None:
            kernel = self.kernel(features) if add else self.negated(features)
        if scale is not None and self.training:
            # Scaled weights cost no pass over the activations, and the backward pass needs no further activation.
            kernel, scale = Kernel(kernel.weight * scale, kernel.groups), None
        change = super().forward(features, kernel)
        if scale is not None:
            # Evaluation scales the output, because an exported network would hold a copy of A for every scale.
            change = change.mul_(scale)
        return change if residual is None else changed(residual, change)

    def _shared_kernel(self, features: Tensor) -> Kernel:
        return self.negated(features)

    def negated(self, features: Tensor) -> Kernel:
        """-A. Negating the weights is cheaper than a pass over the output."""
        weight, groups, _ = self.kernel(features)
        return Kernel(-weight, groups)


class ResolutionTransfer(nn.Module):
    """Pi and R from one resolution level to the next: u' = Pi u and r' = R r.

    `depthwise` (van Betteray et al. 2022): strided 3x3 convolutions with one filter per output channel; the number of
    groups is the number of channels of the finer level. `dense` (He & Xu's code): strided 3x3 convolutions, each
    followed by batch norm and ReLU.

    Args:
        in_channels: c of the finer level.
        out_channels: c of the coarser level.
        kind: `depthwise` or `dense`.
        activates_residual: r' = R sigma(r) in place of R r (Poly-MgNet, van Betteray et al. 2025).
    """

    def __init__(self, in_channels: int, out_channels: int, kind: str, activates_residual: bool = False) -> None:
        super().__init__()
        self.activates_residual = activates_residual
        groups = in_channels if kind == "depthwise" else 1
        self.pi = Convolution(in_channels, out_channels, stride=2, groups=groups)
        self.r = Convolution(in_channels, out_channels, stride=2, groups=groups)
        self.pi_bn = BatchNorm(out_channels) if kind == "dense" else None
        self.r_bn = BatchNorm(out_channels) if kind == "dense" else None

    def forward(self, features: Tensor, residual: Tensor, uses: Uses | None = None) -> tuple[Tensor, Tensor]:
        if self.activates_residual:
            residual = rectified(residual)
        features, residual = self.pi.repeatedly(features, uses)(features), self.r.repeatedly(residual, uses)(residual)
        if self.pi_bn is not None and self.r_bn is not None:
            features, residual = self.pi_bn.rectified(features), self.r_bn.rectified(residual)
        return features, residual


class Stem(nn.Sequential):
    """f_1 = sigma(bn(conv(image))): N x in_channels x h x w -> N x c_1 x h/stride x w/stride.

    Args:
        config: gives the channels, and the stem's stride and kernel size.
    """

    def __init__(self, config: ArchitectureConfig) -> None:
        channels = config.channels[0]
        convolution = Convolution(config.in_channels, channels, config.stem_kernel, config.stem_stride)
        super().__init__(convolution, BatchNorm(channels), nn.ReLU(inplace=True))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Sequential's name
        convolution, batch_norm, _ = self
        assert isinstance(batch_norm, BatchNorm)
        return batch_norm.rectified(convolution(input))


class Head(nn.Module):
    """Global average pool and a linear layer with bias: N x channels x h x w -> N x num_classes logits."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        if self.training and not trains_on_cpu(self, features):
            # The same mean, but its gradient has the layout channels_last, which GPU kernels need.
            return self.linear(features.permute(0, 2, 3, 1).flatten(1, 2).mean(dim=1))
        return self.linear(torch.mean(features, dim=(2, 3)))
