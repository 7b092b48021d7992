"""Batch norm with ReLU by Triton's kernels, against PyTorch in float64: in Triton's interpreter, and on a GPU."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from mgnas.models.layers import BatchNorm, fused_batch_norm

pytest.importorskip("triton")

SHAPES = {
    "one kernel": (4, 12, 5, 0.0),
    "far from zero": (3, 3, 7, 100.0),
    "many channels": (2, 70, 3, 0.0),
    "one pixel": (8, 1, 1, 0.0),
    "many rows": (33, 6, 8, 0.0),
    "many rows, far from zero": (40, 33, 8, -50.0),
}
"""Images, channels, pixels per side, mean. From 2,049 rows on there are two kernels, from 65,536 on more parts."""


def relative_errors(images, channels, size, mean, dtype, device, momentum=0.1, epsilon=1e-5):
    """Of the output, the three gradients and both running statistics; checks the layout, too."""
    from mgnas.models.batch_norm_kernels import BatchNormReLU

    generator = torch.Generator().manual_seed(0)
    x, gradient = (torch.randn(images, channels, size, size, generator=generator) for _ in range(2))
    x = (x + mean).to(device, dtype, memory_format=torch.channels_last).requires_grad_()
    gradient = gradient.to(device, dtype)
    vectors = [torch.rand(channels, generator=generator).sub(0.3).to(device) for _ in range(4)]
    weight, bias = (vector.clone().requires_grad_() for vector in vectors[:2])
    statistics = [vector.clone() for vector in vectors[2:]]
    y = BatchNormReLU.apply(x, weight, bias, *statistics, momentum, epsilon)
    assert y.dtype is dtype
    assert y.stride() == x.stride()
    ours = [y, *torch.autograd.grad(y, (x, weight, bias), gradient), *statistics]

    exact = [tensor.detach().double().requires_grad_() for tensor in (x, weight, bias)]
    running = [vector.double() for vector in vectors[2:]]
    y = F.relu(F.batch_norm(exact[0], *running, exact[1], exact[2], True, momentum, epsilon))
    expected = [y, *torch.autograd.grad(y, exact, gradient.double()), *running]
    pairs = zip(ours, expected, strict=True)
    return [float((one.double() - other).norm() / other.norm().clamp_min(1e-9)) for one, other in pairs]


def output_of_a_channel_with(value, device) -> torch.Tensor:
    """What the kernels make of 33 x 2 x 8 x 8 numbers, of which one in the first channel is this value."""
    from mgnas.models.batch_norm_kernels import BatchNormReLU

    x = torch.randn(33, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    x[20, 0, 3, 3] = value
    vectors = [torch.full((2,), number, device=device) for number in (1.0, 0.0, 0.0, 1.0)]
    return BatchNormReLU.apply(x.to(device, memory_format=torch.channels_last), *vectors, 0.1, 1e-5)


def nothing_is_hidden(device) -> bool:
    """Whether a channel with a value that is not finite has no number in it, and the other channel has."""
    outputs = [output_of_a_channel_with(value, device) for value in (math.nan, math.inf, -math.inf)]
    return all(bool(y[:, 0].isnan().all() and y[:, 1].isfinite().all()) for y in outputs)


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from mgnas.models import batch_norm_kernels
from test_batch_norm_kernels import SHAPES, nothing_is_hidden, relative_errors

batch_norm_kernels._MORE_ROWS = 2500
for name, shape in SHAPES.items():
    for dtype, allowed in ((torch.float32, 1e-5), (torch.bfloat16, 5e-3), (torch.float16, 5e-4)):
        if shape[3] and dtype is not torch.float32:
            continue
        errors = relative_errors(*shape, dtype, "cpu")
        assert max(errors) <= allowed, (name, dtype, errors)
assert nothing_is_hidden("cpu")
batch_norm_kernels.FEW_ROWS = 10_000
assert nothing_is_hidden("cpu")
print("all agree")
"""


def test_the_kernels_agree_with_pytorch_in_float64():
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.stdout == "all agree\n", result.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    ("dtype", "allowed"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-3), (torch.float16, 5e-4)], ids=str
)
@pytest.mark.parametrize("shape", [*SHAPES.values(), (128, 64, 32, 0.0)], ids=[*SHAPES, "large"])
def test_the_kernels_agree_on_a_gpu(shape, dtype, allowed):
    if shape[3] and dtype is not torch.float32:
        pytest.skip("half precision has lost these digits before")
    assert fused_batch_norm() is not None
    assert max(relative_errors(*shape, dtype, "cuda")) <= allowed


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("few_rows", [0, 10_000])
def test_the_kernels_hide_no_divergence_on_a_gpu(few_rows, monkeypatch):
    monkeypatch.setattr("mgnas.models.batch_norm_kernels.FEW_ROWS", few_rows)
    assert nothing_is_hidden("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batch_norm_in_double_precision_is_pytorchs_on_a_gpu():
    layer = BatchNorm(4).cuda().double()
    x = torch.randn(2, 4, 3, 3, device="cuda", dtype=torch.float64).to(memory_format=torch.channels_last)
    assert torch.equal(layer.rectified(x), F.relu(F.batch_norm(x, None, None, layer.weight, layer.bias, True)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_there_are_no_kernels():
    assert fused_batch_norm() is None
