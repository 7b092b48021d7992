"""Which way to compute the networks' convolutions is fastest on a device: layout, type, and how wide groups are.

A convolution of narrow groups is the same as one of fewer, wider groups whose weights between the old groups are zero
(`grouped_together`). Every way is timed forward and backward, with the merging of the weights. On a GPU the passes are
recorded as a CUDA graph, so that only the time of the kernels counts.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from steps import Context, Jobs
from torch import Tensor
from torch.nn import functional as F

from mgnas.models.layers import grouped_together

# (channels, pixels per side) of the levels of MGiaD [64,128,256,256] in resolution, and of the next two in channels.
SHAPES = ((64, 32), (128, 16), (256, 8), (256, 4), (32, 32), (64, 16), (128, 8), (128, 4), (16, 32), (32, 16), (64, 8))
_FINEST = 4
"""Number of shapes that are the finest in channels. They take most of the time, so they come first."""
GROUP_SIZES = (8, None, 4, 16, 64, 32)
"""Channels of a group, None for a dense convolution; the most frequent first."""
TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16}
LAYOUTS = {"nhwc": torch.channels_last, "nchw": torch.contiguous_format}
_WIDTHS = (16, 32, 64)


def jobs(context: Context) -> Jobs:
    """Two jobs for each shape and group size, the most useful ways of all first, because time may be too short."""
    shapes, sizes, batch = (((8, 8),), (4, None), 2) if context.tiny else (SHAPES, GROUP_SIZES, 128)
    tiers = [tier for tier in (shapes[:_FINEST], shapes[_FINEST:]) if tier]
    cases = [(*shape, size or shape[0]) for tier in tiers for size in sizes for shape in tier]
    cases = [case for case in dict.fromkeys(cases) if case[2] <= case[0]]
    found = {}
    for first in (True, False):
        for channels, size, group in cases:
            name = f"{channels} ch, {size} px, " + ("dense" if group == channels else f"g_s={group}")
            arguments = (channels, size, group, batch, context.device, first)
            found[name + ("" if first else ", rest")] = partial(measure_convolution, *arguments)
    return found


def widths(channels: int, group: int) -> list[int]:
    """Channels of the merged groups to try: the group itself, wider ones up to 64, and one group for all channels."""
    wider = [width for width in (*_WIDTHS, channels) if width > group and channels % width == 0 and width % group == 0]
    return list(dict.fromkeys([group, *wider]))


def ways_to_try(channels: int, group: int, first: bool) -> list[tuple[str, str, int]]:
    """(type, layout, width) of the ways that are tried first, or of the others.

    The first ones are those of channels_last in bfloat16 and float32, and the default layout in bfloat16, not merged.
    """
    ways = list(itertools.product(TYPES, LAYOUTS, widths(channels, group)))
    early = [way for way in ways if (way[1] == "nhwc" and way[0] != "fp16") or way == ("bf16", "nchw", group)]
    return early if first else [way for way in ways if way not in early]


def measure_convolution(channels: int, size: int, group: int, batch: int, device: str, first: bool) -> dict[str, Any]:
    """Microseconds of a 3x3 convolution, forward and backward. The row has the fastest way of each type.

    `ways` has [type, layout, width, microseconds forward, microseconds of both passes] of each way. A way that cannot
    be computed has the error's message instead.
    """
    if device == "cuda":
        torch.backends.cudnn.benchmark = True
    ways: list[list[Any]] = []
    for kind, layout, width in ways_to_try(channels, group, first):
        try:
            forward, both = time_convolution(channels, size, group, width, batch, device, kind, layout)
        except RuntimeError as error:
            if "CUDA error" in str(error):
                raise
            ways.append([kind, layout, width, str(error).splitlines()[0][:80], None])
        else:
            ways.append([kind, layout, width, round(1e6 * forward, 1), round(1e6 * both, 1)])
    row: dict[str, Any] = {}
    for kind in TYPES:
        measured = [way for way in ways if way[0] == kind and way[4] is not None]
        if measured:
            fastest = min(measured, key=lambda way: way[4])
            row[kind] = f"{fastest[4]:g} us: {fastest[1]}, width {fastest[2]}"
    unmerged = next((way[4] for way in ways if way[:3] == ["bf16", "nhwc", group]), None)
    return row | ({} if unmerged is None else {"bf16, not merged": f"{unmerged:g} us"}) | {"ways": ways}


def time_convolution(
    channels: int, size: int, group: int, width: int, batch: int, device: str, kind: str, layout: str
) -> tuple[float, float]:
    """Seconds of the forward pass, and of both passes."""
    dtype, memory_format, groups = TYPES[kind], LAYOUTS[layout], channels // group
    merged = width // group
    features = torch.randn(batch, channels, size, size, device=device, dtype=dtype)
    features = features.to(memory_format=memory_format).requires_grad_()
    weight = torch.randn(channels, group, 3, 3, device=device, dtype=dtype)
    weight = weight.to(memory_format=memory_format).requires_grad_()
    gradient = torch.randn_like(features)

    def forward() -> Tensor:
        wide = grouped_together(weight, groups, merged) if merged > 1 else weight
        return F.conv2d(features, wide, padding=1, groups=groups // merged)

    def both() -> None:
        torch.autograd.grad(forward(), (features, weight), gradient)

    return seconds_of(forward, device), seconds_of(both, device)


def seconds_of(work: Callable[[], object], device: str, calls: int = 5, repetitions: int = 3) -> float:
    """Seconds of a call: of the fastest of some repetitions of some calls. On a GPU the calls are a CUDA graph."""
    if device == "cpu":
        calls, repetitions = 1, 1
        work()
        repeated = work
    else:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                work()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for _ in range(calls):
                work()
        graph.replay()
        torch.cuda.synchronize()
        repeated = graph.replay
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        repeated()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append((time.perf_counter() - start) / calls)
    return min(seconds)
