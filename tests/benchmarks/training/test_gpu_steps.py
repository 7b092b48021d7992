"""benchmarks/training/gpu_steps.py: what it computes of a profile, and which cases it measures."""

import time
from pathlib import Path

import gpu_steps
import pytest
from steps import Context
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent


def kernel(name: str, start: float, end: float) -> FunctionEvent:
    return FunctionEvent(0, name, 1, start, end, use_device="cuda", device_type=DeviceType.CUDA)


def test_kernels_of_a_step_and_the_share_of_time_in_which_one_runs():
    """0 to 30 and 20 to 40 overlap, then nothing runs until 90, then something until 100: 50 of 100 us."""
    events = [kernel("b", 20, 40), kernel("a", 0, 30), kernel("a", 90, 100)]
    operator = FunctionEvent(1, "aten::convolution", 1, 0, 1000, use_device="cuda")
    row = gpu_steps.kernel_row([*events, operator], "cuda", 2)
    assert (row["kernels a step"], row["busy"], row["us a step"]) == (1.5, "50%", 30)
    assert row["longest"] == [["a", 20.0, 1.0], ["b", 10.0, 0.5]]
    assert row["most time"] == "67% a; 33% b"


def test_a_profile_without_a_kernel_is_an_error():
    with pytest.raises(RuntimeError, match="no kernel"):
        gpu_steps.kernel_row([], "cuda", 2)


def test_every_case_is_measured_in_every_execution_and_the_plain_recipe_once():
    context = Context("cuda", False, None, "", time.monotonic() + 60, Path("unused"))
    names = list(gpu_steps.throughput(context))
    assert len(names) == len(set(names))
    for case in ("mgiad-g8", "resnet18", "mgnet", "digits-mgiad"):
        for way in ("plain", *gpu_steps._EXECUTIONS):
            assert f"{case}, {way}" in names
    assert names.index("digits-mgiad, cuda-graphs") < min(names.index(name) for name in names if "compile" in name)


def test_without_images_no_published_network_is_trained():
    context = Context("cuda", False, None, "resnet18-cifar10", 0.0, Path("unused"))
    assert gpu_steps.published_row(context) == {}
