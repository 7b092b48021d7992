"""When memory runs out: the same results from less of it.

A smaller batch would train another network, since batch norm couples the images of a batch. So the batch stays as it
is, and what the forward pass keeps for the backward pass moves into the host's memory, bit for bit and in its layout
(Rhu et al. 2016, vDNN).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from mgnas.errors import UserError

from ...models.config import ArchitectureConfig

T = TypeVar("T")

# What the CPU's allocator, the driver, cuBLAS and cuDNN say in place of torch.OutOfMemoryError.
_MESSAGES = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


class NotEnoughMemoryError(UserError):
    """A network cannot be trained in the memory that there is."""

    def __init__(self, architecture: ArchitectureConfig, batch_size: int, device: torch.device) -> None:
        gpu = device.type == "cuda"
        place = "on the GPU" if gpu else "in memory"
        share = "more of the GPU (gpus_per_trial)" if gpu else "more memory (fewer workers)"
        super().__init__(
            f"out of memory: {architecture.describe()} at batch size {batch_size} does not fit {place}; "
            f"lower batch_size or limits.max_macs, or give each trial {share}"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this error says that memory has run out, on whatever device."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)


def release_memory(error: BaseException) -> None:
    """Let go of all that a failed attempt holds: the local variables of its frames, and torch's reserve on a GPU."""
    traceback.clear_frames(error.__traceback__)
    # NOTE: On a CPU a backward pass that has failed leaves tasks in this thread's queue, and with them its graph, until
    # the next backward pass drops them; so here is one.
    torch.zeros((), requires_grad=True).backward()
    torch.cuda.empty_cache()


def within_memory(work: Callable[[], T], use_less: Callable[[], None]) -> T:
    """The result of `work`, in as many attempts as its memory takes.

    Args:
        work: started anew after each out-of-memory error.
        use_less: called in between; makes the next attempt need less, or raises NotEnoughMemoryError.
    """
    while True:
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            release_memory(error)
            use_less()


def activations(offloaded: bool, device: torch.device) -> AbstractContextManager:
    """A context in which the forward pass keeps activations where it should; on the device unless `offloaded`.

    A CPU has no other memory to go to: all that can help there is that others release theirs.
    """
    return HostActivations() if offloaded and device.type == "cuda" else nullcontext()


class HostActivations(saved_tensors_hooks):
    """A context in which the forward pass keeps activations for the backward pass in the host's memory.

    NOTE: torch.autograd.graph.save_on_cpu would do, if it kept channels_last; with `pin_memory` it does not, so the
    backward pass would take other kernels, with other rounding. Operations in place are safe: each copy is made when
    its tensor is saved, and later operations come behind it on the stream.
    """

    def __init__(self) -> None:
        super().__init__(_pack, _unpack)


def _pack(tensor: Tensor) -> tuple[torch.device, Tensor]:
    # Parameters are on the device in any case, and all but n x c x h x w is small. detach(), as the graph must not
    # come to hold its own output.
    if isinstance(tensor, nn.Parameter) or tensor.ndim < 4:
        return tensor.device, tensor.detach()
    return tensor.device, to_host(tensor)


def _unpack(packed: tuple[torch.device, Tensor]) -> Tensor:
    device, tensor = packed
    return tensor.to(device, non_blocking=True)


def to_host(tensor: Tensor) -> Tensor:
    """A copy in the host's memory, with the same strides, pinned if it comes from a GPU.

    The copy may still be under way; it is complete for operations on the same stream.
    """
    host = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
    return host.copy_(tensor.detach(), non_blocking=True)


def host_copy(state: Any) -> Any:
    """The dictionaries and lists of a state, with copies of its tensors in the host's memory."""
    if isinstance(state, Tensor):
        return to_host(state)
    if isinstance(state, dict):
        return {key: host_copy(value) for key, value in state.items()}
    if isinstance(state, list):
        return [host_copy(value) for value in state]
    return state
