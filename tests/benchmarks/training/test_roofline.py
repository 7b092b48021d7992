"""benchmarks/training/roofline.py: traffic, time by kind of operation, and that it runs."""

import pytest
import roofline
import torch
from cases import CASES
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent, Kernel

from mgnas.models import count_macs


def test_traffic_is_operands_and_results_of_both_passes_without_views():
    x, y = torch.ones(1000, requires_grad=True), torch.ones(1000)
    with roofline.Traffic() as traffic:
        product = x.view(10, 100) * y.view(10, 100)
    assert traffic.bytes == 3 * 4000
    with roofline.Traffic() as traffic:
        product.backward(torch.ones(10, 100))
    # The gradient is made by `ones`, multiplied with y, and kept as the gradient of x, as a view.
    assert traffic.bytes == 4000 + 3 * 4000


def test_on_a_gpu_the_time_of_a_kernel_counts_once():
    """30 us of a convolution and 10 us of an addition, inside an operator and inside a range of the program."""
    operator = FunctionEvent(0, "aten::convolution", 1, 0, 100, use_device="cuda")
    operator.kernels.append(Kernel("sm90_xmma_fprop_implicit_gemm", 0, 30))
    on_gpu = {"use_device": "cuda", "device_type": DeviceType.CUDA}
    events = [
        operator,
        FunctionEvent(1, "Optimizer.step#SGD.step", 1, 0, 90, is_user_annotation=True, **on_gpu),
        FunctionEvent(2, "sm90_xmma_fprop_implicit_gemm", 1, 10, 40, **on_gpu),
        FunctionEvent(3, "void vectorized_elementwise_kernel<CUDAFunctor_add<float>>", 1, 40, 50, **on_gpu),
    ]
    assert sum(event.self_device_time_total for event in events[:1]) == 30, "the operator has its kernel's time, too"
    shares = roofline.shares_of(events, "cuda")
    assert {kind: share for kind, share in shares.items() if share} == {"convolution %": 75, "addition %": 25}


@pytest.mark.slow
def test_the_limits_of_a_case(run_benchmark):
    (row,) = run_benchmark("roofline.py")
    assert (row["case"], row["mgnas computes in"]) == ("digits-mgnet", "float32")
    work = 6 * count_macs(CASES["digits-mgnet"].architecture, 8)
    assert row["GFLOP/s"] == pytest.approx(work * row["images/s"] / 1e9, abs=0.06)
    kinds = (*roofline._OPERATIONS, "others")
    assert sum(row[f"{kind} %"] for kind in kinds) == pytest.approx(100, abs=0.5)
