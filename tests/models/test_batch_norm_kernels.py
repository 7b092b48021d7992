"""Batch norm with ReLU by Triton's kernels, against PyTorch in float64: in Triton's interpreter, and on a GPU."""

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from mgnas.models import ArchitectureConfig, build_model, layers, mgiad, shared_weights, smoothers
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


USES = {
    "one use": ((0,), False),
    "two uses": ((0, 1), False),
    "the second use": ((1,), False),
    "of a sum": ((0,), True),
    "and of the sum": ((0, 2), True),
    "two uses and one of the sum": ((0, 1, 2), True),
}
"""The outputs that are used, and whether the input is a sum."""


def relative_errors(images, channels, size, mean, dtype, device, uses=(0,), is_sum=False, momentum=0.1, epsilon=1e-5):
    """Of the output, the gradients and both running statistics; checks the layout and the sum, too."""
    from mgnas.models.batch_norm_kernels import BatchNormReLU

    generator = torch.Generator().manual_seed(0)

    def image() -> torch.Tensor:
        values = torch.randn(images, channels, size, size, generator=generator)
        return values.to(device, dtype, memory_format=torch.channels_last)

    x, y = ((image() + mean / 2).requires_grad_() for _ in range(2))
    vectors = [torch.rand(channels, generator=generator).sub(0.3).to(device) for _ in range(4)]
    weight, bias = (vector.clone().requires_grad_() for vector in vectors[:2])
    statistics = [vector.clone() for vector in vectors[2:]]
    outputs = BatchNormReLU.apply(x, y if is_sum else None, weight, bias, *statistics, momentum, epsilon)
    z, same, r = outputs
    assert z.dtype is dtype
    assert z.stride() == x.stride()
    assert torch.equal(z, same)
    gradients = [image() for _ in uses]
    inputs = (x, y, weight, bias) if is_sum else (x, weight, bias)
    found = torch.autograd.grad([outputs[use] for use in uses], inputs, gradients)
    if is_sum:
        # Triton's interpreter does not round to the nearest number of bfloat16.
        unit = torch.finfo(dtype).eps if device == "cpu" and dtype is torch.bfloat16 else 0
        torch.testing.assert_close(r, x + y, rtol=unit, atol=0)
        assert torch.equal(found[0], found[1])
    else:
        assert r is None
    ours = [z.detach(), found[0], *found[-2:], *statistics]

    exact = [tensor.detach().double().requires_grad_() for tensor in (r if is_sum else x, weight, bias)]
    running = [vector.double() for vector in vectors[2:]]
    z = F.relu(F.batch_norm(exact[0], *running, exact[1], exact[2], True, momentum, epsilon))
    used = [(z, z, exact[0])[use] for use in uses]
    expected = [z.detach(), *torch.autograd.grad(used, exact, [g.double() for g in gradients]), *running]
    pairs = zip(ours, expected, strict=True)
    return [float((one.double() - other).norm() / other.norm().clamp_min(1e-9)) for one, other in pairs]


def output_of_a_channel_with(value, device) -> torch.Tensor:
    """What the kernels make of 33 x 2 x 8 x 8 numbers, of which one in the first channel is this value."""
    from mgnas.models.batch_norm_kernels import BatchNormReLU

    x = torch.randn(33, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    x[20, 0, 3, 3] = value
    vectors = [torch.full((2,), number, device=device) for number in (1.0, 0.0, 0.0, 1.0)]
    return BatchNormReLU.apply(x.to(device, memory_format=torch.channels_last), None, *vectors, 0.1, 1e-5)[0]


def nothing_is_hidden(device) -> bool:
    """Whether a channel with a value that is not finite has no number in it, and the other channel has."""
    outputs = [output_of_a_channel_with(value, device) for value in (math.nan, math.inf, -math.inf)]
    return all(bool(y[:, 0].isnan().all() and y[:, 1].isfinite().all()) for y in outputs)


NETWORKS = {
    "mgnet": {"family": "mgnet", "base_channels": (4, 8), "smoothing_steps": 2},
    "mgnet, none shared": {"family": "mgnet", "base_channels": (4, 8), "smoothing_steps": 2, "sharing": "none"},
    "mgnet, dense": {"family": "mgnet", "base_channels": (4, 8), "smoothing_steps": 2, "resolution_transfer": "dense"},
    "mgiad": {"family": "mgiad", "base_channels": (8,), "group_size": 4, "fully_coupled_channels": 4},
    "polynomial": {
        "family": "mgiad",
        "base_channels": (8,),
        "group_size": 4,
        "fully_coupled_channels": 4,
        "smoother": "polynomial",
    },
    "resnet": {"family": "resnet", "base_channels": (4, 8)},
}


def what_training_computes(name, fused) -> list[torch.Tensor]:
    """Logits, gradients and running statistics of a network in the form that a GPU trains."""
    from mgnas.models.batch_norm_kernels import BatchNormReLU

    torch.manual_seed(0)
    network = build_model(ArchitectureConfig(in_channels=1, **NETWORKS[name])).train()
    images = torch.randn(3, 1, 4, 4)
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return BatchNormReLU.apply(*arguments)

    with pytest.MonkeyPatch.context() as monkeypatch:
        for module in (layers, mgiad, shared_weights, smoothers):
            monkeypatch.setattr(module, "trains_on_cpu", lambda *_: False)
        monkeypatch.setattr(BatchNorm, "_can_be_fused", lambda layer, _: fused and layer.training)
        monkeypatch.setattr(layers, "fused_batch_norm", lambda: counted)
        network = network.to(memory_format=torch.channels_last)
        logits = network(images.to(memory_format=torch.channels_last))
        logits.square().sum().backward()
    assert bool(calls) == fused
    return [logits.detach(), *(parameter.grad for parameter in network.parameters()), *network.buffers()]


COMPARISON = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from test_batch_norm_kernels import NETWORKS, what_training_computes

for name in NETWORKS:
    ours, theirs = (what_training_computes(name, fused) for fused in (True, False))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5, msg=name)
print("all agree")
"""

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from mgnas.models import batch_norm_kernels
from test_batch_norm_kernels import SHAPES, USES, nothing_is_hidden, relative_errors

batch_norm_kernels._MORE_ROWS = 2500
batch_norm_kernels._PARTS, batch_norm_kernels._MORE_PARTS = 4, 8  # the interpreter executes them one by one
for name, shape in SHAPES.items():
    for dtype, allowed in ((torch.float32, 1e-5), (torch.bfloat16, 5e-3), (torch.float16, 5e-4)):
        if shape[3] and dtype is not torch.float32:
            continue
        for title, uses in USES.items():
            if dtype is not torch.float32 and title not in ("one use", "two uses and one of the sum"):
                continue
            errors = relative_errors(*shape, dtype, "cpu", *uses)
            assert max(errors) <= allowed, (name, title, dtype, errors)
assert nothing_is_hidden("cpu")
batch_norm_kernels.FEW_ROWS = 10_000
assert nothing_is_hidden("cpu")
print("all agree")
"""


@pytest.mark.parametrize("script", [SCRIPT, COMPARISON], ids=["kernels", "networks"])
def test_what_they_compute_agrees_with_pytorch(script):
    command = [sys.executable, "-c", script, str(Path(__file__).parent)]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.stdout == "all agree\n", result.stderr


VECTORS = ("weight", "bias", "running_mean", "running_variance", "means", "deviations", "dweight", "dbias", "parts")
FLAGS = ("is_sum", "has_more", "has_dr")
TILES = {
    "_forward_few_rows": {"row_tile": 2048, "channel_tile": 2},
    "_backward_few_rows": {"row_tile": 2048, "channel_tile": 2},
    "_forward_sums": {"row_tile": 128, "channel_tile": 32},
    "_backward_sums": {"row_tile": 128, "channel_tile": 32},
    "_forward_many_rows": {"row_tile": 128, "channel_tile": 32, "part_count": 128},
    "_backward_many_rows": {"row_tile": 128, "channel_tile": 32, "part_count": 128},
}


@pytest.mark.parametrize("name", TILES)
def test_the_kernels_can_be_compiled_for_a_gpu_that_is_not_here(name):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.compiler import compile as compiled

    from mgnas.models import batch_norm_kernels

    def kind(argument: str) -> str:
        if argument in ("momentum", "epsilon"):
            return "fp32"
        if argument in ("rows", "part", "channels"):
            return "i32"
        return "*fp32" if argument in VECTORS else "*bf16"

    kernel = getattr(batch_norm_kernels, name)
    flags = [flag for flag in FLAGS if flag in kernel.arg_names]
    for values in itertools.product([False, True], repeat=len(flags)):
        constants = TILES[name] | dict(zip(flags, values, strict=True))
        types = {argument: "constexpr" if argument in constants else kind(argument) for argument in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=types, constexprs=constants)
        assert compiled(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 8}).asm["cubin"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    ("dtype", "allowed"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-3), (torch.float16, 5e-4)], ids=str
)
@pytest.mark.parametrize("shape", [*SHAPES.values(), (128, 64, 32, 0.0)], ids=[*SHAPES, "large"])
@pytest.mark.parametrize("uses", USES.values(), ids=USES)
def test_the_kernels_agree_on_a_gpu(shape, dtype, allowed, uses):
    if shape[3] and dtype is not torch.float32:
        pytest.skip("half precision has lost these digits before")
    assert fused_batch_norm() is not None
    assert max(relative_errors(*shape, dtype, "cuda", *uses)) <= allowed


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
