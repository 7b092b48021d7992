"""The ways to execute training steps: operation by operation, compiled, or recorded as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Execution = Literal["auto", "eager", "compile", "cuda-graphs", "compile-cuda-graphs"]


class TrainingForward:
    """The forward pass of a network in training, with its backward pass.

    Compiling takes minutes on a CPU and pays for long trainings only. Recording takes as long as a few steps. Both are
    done at the first call, for the shape of its images. All batches of a training have the same shape.

    Args:
        model: the network. Its `eval` mode is always eager.
        execution: `eager`: operation by operation. `compile`: by torch.compile, which needs a C++ compiler on a CPU.
            `cuda-graphs`: the kernels of a step are recorded and then launched together; on a CPU the same as `eager`.
    """

    def __init__(self, model: nn.Module, execution: Execution) -> None:
        self._model, self._execution = model, execution
        self._call: Callable[[Tensor], Tensor] | None = model if execution == "eager" else None

    def __call__(self, images: Tensor) -> Tensor:
        """N x channels x h x w images -> N x classes logits."""
        if self._call is None:
            self._call = self._prepared(images)
        return self._call(images)

    def be_eager(self) -> None:
        """Execute operation by operation from now on, so that hooks on saved tensors are called."""
        if self._call is not self._model:
            self._model.__dict__.pop("forward", None)
            self._call = self._model

    def _prepared(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        if self._execution == "compile":
            return torch.compile(self._model, dynamic=False)
        if images.is_cuda:
            _record(self._model, images)
        return self._model


def _record(model: nn.Module, images: Tensor) -> None:
    """Make the model replay a CUDA graph of its passes in training mode. Its state does not change."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    cached = torch.is_autocast_cache_enabled()
    # NOTE: With its cache, autocast would use half-precision copies of weights that were made outside of the graph.
    torch.set_autocast_cache_enabled(False)
    try:
        torch.cuda.make_graphed_callables(model, (images.clone(memory_format=torch.preserve_format),))
    finally:
        torch.set_autocast_cache_enabled(cached)
    # Recording has changed the running statistics by a few steps.
    model.load_state_dict(before)
