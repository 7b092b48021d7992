"""Training with less memory after an out-of-memory error, with the same results.

A smaller batch would train another network, because batch norm couples the images of a batch. So the batch keeps its
size. The tensors that the forward pass keeps for the backward pass are moved into the host's memory instead, bit for
bit and in the same layout (Rhu et al. 2016, vDNN).
"""

from __future__ import annotations

import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from mgnas.errors import UserError

from ...models.config import ArchitectureConfig

T = TypeVar("T")

# Messages of the CPU's allocator, the driver, cuBLAS and cuDNN, which do not raise torch.OutOfMemoryError.
_MESSAGES = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    # cuBLAS and cuDNN cannot allocate their own workspaces.
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "ALLOCATION_FAILED",
    # cuDNN has no algorithm whose workspace fits.
    "unable to find an engine",
)


class NotEnoughMemoryError(UserError):
    """There is not enough memory to train a network."""

    def __init__(self, architecture: ArchitectureConfig, batch_size: int, device: torch.device) -> None:
        gpu = device.type == "cuda"
        place = "on the GPU" if gpu else "in memory"
        share = "more of the GPU (gpus_per_trial)" if gpu else "more memory (fewer workers)"
        super().__init__(
            f"out of memory: {architecture.describe()} at batch size {batch_size} does not fit {place}; "
            f"lower batch_size or limits.max_macs, or give each trial {share}"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this error says that memory has run out, on a CPU or a GPU."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)


def release_memory(error: BaseException) -> None:
    """Release what a failed attempt holds: the local variables of its frames, and torch's reserve on a GPU."""
    traceback.clear_frames(error.__traceback__)
    # NOTE: On a CPU a failed backward pass leaves tasks in this thread's queue, which hold its graph until the next
    # backward pass removes them. This is one.
    torch.zeros((), requires_grad=True).backward()
    torch.cuda.empty_cache()


def within_memory(work: Callable[[], T], use_less: Callable[[], None]) -> T:
    """The result of `work`, which is repeated with less memory after each out-of-memory error.

    Args:
        work: what to compute.
        use_less: makes the next attempt need less memory, or raises NotEnoughMemoryError. It is called after an error.
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
    """A context in which the forward pass keeps activations in the host's memory if `offloaded`, else on the device.

    It changes nothing on a CPU, which has no other memory. A second attempt can still succeed if other processes have
    released memory.
    """
    return HostActivations() if offloaded and device.type == "cuda" else nullcontext()


class HostActivations(saved_tensors_hooks):
    """A context in which the forward pass keeps activations for the backward pass in the host's memory.

    NOTE: torch.autograd.graph.save_on_cpu with `pin_memory` loses the channels_last layout. The backward pass would
    then run other kernels, with other rounding. Operations in place are safe: a tensor is copied when it is saved, and
    later operations follow on the same stream.
    """

    def __init__(self) -> None:
        super().__init__(_pack, _unpack)


def _pack(tensor: Tensor) -> tuple[torch.device, Tensor]:
    # Parameters stay on the device anyway, and tensors with fewer than four dimensions are small. detach(), because the
    # graph must not hold its own output.
    if isinstance(tensor, nn.Parameter) or tensor.ndim < 4:
        return tensor.device, tensor.detach()
    return tensor.device, to_host(tensor)


def _unpack(packed: tuple[torch.device, Tensor]) -> Tensor:
    device, tensor = packed
    return tensor.to(device, non_blocking=True)


def to_host(tensor: Tensor) -> Tensor:
    """A copy in the host's memory, with the same strides. It is pinned if the tensor is on a GPU.

    The copy is asynchronous: it is complete for later operations on the same stream.
    """
    host = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
    return host.copy_(tensor.detach(), non_blocking=True)


def host_copy(state: Any) -> Any:
    """A copy of a state's dictionaries and lists, with all tensors in the host's memory, contiguous.

    Tensors of one type travel together, because a state has hundreds of small ones.
    """
    alike = defaultdict(list)
    for tensor in _tensors(state):
        alike[tensor.device, tensor.dtype].append(tensor.detach())
    copies = {}
    for tensors in alike.values():
        flat = to_host(torch.cat([tensor.reshape(-1) for tensor in tensors]))
        parts = flat.split([tensor.numel() for tensor in tensors])
        copies[tensors[0].device, tensors[0].dtype] = iter(
            [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
        )
    if any(device.type == "cuda" for device, _ in alike):
        torch.cuda.current_stream().synchronize()
    return _with_copies(state, copies)


def _tensors(state: Any) -> Iterator[Tensor]:
    """The tensors of a state, in the order of `_with_copies`."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict | list):
        for value in state.values() if isinstance(state, dict) else state:
            yield from _tensors(value)


def _with_copies(state: Any, copies: dict[tuple[torch.device, torch.dtype], Iterator[Tensor]]) -> Any:
    if isinstance(state, Tensor):
        return next(copies[state.device, state.dtype])
    if isinstance(state, dict):
        return {key: _with_copies(value, copies) for key, value in state.items()}
    if isinstance(state, list):
        return [_with_copies(value, copies) for value in state]
    return state
