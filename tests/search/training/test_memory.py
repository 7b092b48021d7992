"""Activations in the host's memory, bit for bit and in their layout; errors that say that memory has run out."""

import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from mgnas.models import build_model
from mgnas.search.training.memory import (
    HostActivations,
    activations,
    host_copy,
    is_out_of_memory,
    release_memory,
    to_host,
)

FAMILIES = {
    "resnet": {"family": "resnet", "base_channels": (4, 8), "blocks": 1},
    "mgnet": {"family": "mgnet", "base_channels": (4, 8), "smoothing_steps": 3, "sharing": "A"},
    "mgnet, nothing shared": {"family": "mgnet", "base_channels": (4, 8), "smoothing_steps": 3, "sharing": "none"},
    "mgnet, dense": {"family": "mgnet", "base_channels": (4, 8), "resolution_transfer": "dense"},
    "mgic": {"family": "mgic", "base_channels": (8, 16), "blocks": 2, "group_size": 4, "fully_coupled_channels": 8},
    "mgiad": {"family": "mgiad", "base_channels": (8, 16), "smoothing_steps": 2, "fully_coupled_channels": 4},
    "mgiad, learned": {
        "family": "mgiad",
        "base_channels": (8, 16),
        "group_size": 4,
        "fully_coupled_channels": 4,
        "channel_transfer": "learned",
    },
}


@pytest.fixture(params=FAMILIES)
def architecture(request, tiny):
    return tiny(num_classes=2, **FAMILIES[request.param])


# ------------------------------------------------------------------------------------------ activations in the host


def gradients(architecture, context, precision=None) -> list[torch.Tensor]:
    torch.manual_seed(0)
    model = build_model(architecture).to(memory_format=torch.channels_last)
    images = torch.randn(6, 1, 8, 8).to(memory_format=torch.channels_last)
    with context, torch.autocast("cpu", precision, enabled=precision is not None):
        loss = F.cross_entropy(model(images), torch.arange(6) % 2)
    loss.backward()
    return [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_gradients_are_the_same_bit_for_bit(architecture, precision):
    with torch.random.fork_rng():
        plain = gradients(architecture, activations(False, torch.device("cuda")), precision)
        offloaded = gradients(architecture, activations(True, torch.device("cuda")), precision)
    assert all(torch.equal(one, other) for one, other in zip(plain, offloaded, strict=True))
    assert any(gradient.any() for gradient in plain)


def test_what_is_kept_is_a_copy_in_the_same_layout():
    images = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    factor = torch.ones(2, 3, 4, 4, requires_grad=True)
    original = images.clone()
    with HostActivations():
        product = images * factor
    assert product.grad_fn._saved_self.stride() == images.stride()
    images.zero_()  # Memory that is free for others once the forward pass is over.
    product.sum().backward()
    assert torch.equal(factor.grad, original)


def test_parameters_stay_where_they_are():
    layer = nn.Conv2d(2, 2, 3)
    with HostActivations():
        result = layer(torch.randn(1, 2, 5, 5))
    assert result.grad_fn._saved_weight.data_ptr() == layer.weight.data_ptr()


def test_a_graph_that_is_not_used_goes_without_a_garbage_collection():
    with HostActivations():
        result = torch.randn(3, 3, requires_grad=True).exp()  # keeps its own output
    reference = weakref.ref(result)
    del result
    assert reference() is None


def test_on_a_cpu_activations_stay_where_they_are():
    assert not isinstance(activations(True, torch.device("cpu")), HostActivations)
    assert isinstance(activations(True, torch.device("cuda")), HostActivations)


@given(
    st.lists(st.integers(1, 4), min_size=4, max_size=4),
    st.permutations(range(4)),
    st.sampled_from([torch.float32, torch.bfloat16, torch.bool, torch.int64]),
)
def test_a_copy_has_the_same_values_and_strides(shape, order, dtype):
    tensor = torch.arange(int(np.prod(shape))).reshape(shape).permute(order).to(dtype)
    copied = to_host(tensor)
    assert torch.equal(copied, tensor)
    assert (copied.stride(), copied.dtype) == (tensor.stride(), dtype)
    assert copied.data_ptr() != tensor.data_ptr()


def test_a_copy_of_a_state_is_independent_of_it():
    state = {"a": [torch.ones(2), {"b": torch.zeros(1)}], "c": 3, "d": None}
    copied = host_copy(state)
    state["a"][0].add_(1)
    state["a"].append(4)
    assert copied["a"][0].tolist() == [1, 1]
    assert len(copied["a"]) == 2
    assert (copied["a"][1]["b"].item(), copied["c"], copied["d"]) == (0, 3, None)


def test_a_state_travels_in_one_copy_of_each_type():
    state = {"weights": [torch.ones(3, 2) for _ in range(50)], "counts": [torch.tensor(7), torch.tensor([1, 2])]}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        copied = host_copy(state)
    assert {event.key: event.count for event in profile.key_averages()}["aten::cat"] == 2
    assert torch.equal(copied["weights"][49], torch.ones(3, 2))
    assert [count.tolist() for count in copied["counts"]] == [7, [1, 2]]
    assert len({tensor.untyped_storage().data_ptr() for tensor in copied["weights"]}) == 1


@given(st.permutations(range(3)), st.sampled_from([torch.float32, torch.bfloat16, torch.int64]))
def test_a_copy_of_a_state_has_its_values_whatever_its_layout(order, dtype):
    tensor = torch.arange(24).reshape(2, 3, 4).permute(order).to(dtype)
    copied = host_copy([tensor])
    assert torch.equal(copied[0], tensor)
    assert copied[0].is_contiguous()


# --------------------------------------------------------------------------------------------------- recognising it


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
    ids=lambda value: str(value).split("\n")[0][:40],
)
def test_errors_that_say_that_memory_has_run_out(error, expected):
    assert is_out_of_memory(error) is expected


def test_the_cpu_allocators_error_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert is_out_of_memory(caught.value)


def test_what_an_error_held_is_released():
    def fail():
        held = torch.zeros(3)
        references.append(weakref.ref(held))
        raise MemoryError

    references = []
    try:
        fail()
    except MemoryError as error:
        assert references[0]() is not None
        release_memory(error)
        assert references[0]() is None
