"""Batch norm (Ioffe & Szegedy 2015) followed by ReLU, as one or two GPU kernels for each pass, written in Triton.

PyTorch takes five kernels for the forward pass (statistics, their running averages, normalisation, ReLU, and a counter
that is set to zero) and four for the backward pass. The networks spend a third of a step in them, because most
activations are small: a kernel then takes as long as its launch.

An activation in the layout channels_last is a matrix, rows x channels, with a row for each pixel of each image. Few
rows are one kernel: a program has some channels and reads its columns twice. With many rows, a first kernel leaves
sums over parts of the rows, and each program of a second one adds them up. Sums are of differences from the first row,
so that they lose no digits if the mean is large. No sum depends on the order in which programs end, so results are the
same in every run.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

FEW_ROWS = 2048
"""Rows up to which one kernel does the whole pass."""

_WARPS = 8
_TILE = 4096
"""Values that a program works on at the same time."""
_PARTS, _MORE_PARTS = 64, 128
"""Parts of many rows whose sums are taken apart; the second number from `_MORE_ROWS` on."""
_MORE_ROWS = 65_536
_PROGRAMS = 528
"""Programs of the second kernel for many rows: four for each multiprocessor of a large GPU."""


@triton.jit
def _tile(start, end, channel, present, channels, row_tile: tl.constexpr):
    """(places of the values of a tile, which of them there are)."""
    row = start + tl.arange(0, row_tile)
    return row.to(tl.int64)[:, None] * channels + channel[None, :], (row < end)[:, None] & present[None, :]


@triton.jit
def _sums(x, channel, present, begin, end, channels, row_tile: tl.constexpr, channel_tile: tl.constexpr):
    """(sums of x - first row, sums of their squares, first row) over the rows from begin to end."""
    first = tl.load(x + channel, mask=present, other=0.0).to(tl.float32)
    total = tl.zeros([row_tile, channel_tile], tl.float32)
    squares = tl.zeros([row_tile, channel_tile], tl.float32)
    for start in range(begin, end, row_tile):
        place, inside = _tile(start, end, channel, present, channels, row_tile)
        value = tl.load(x + place, mask=inside, other=0.0)
        difference = tl.where(inside, value.to(tl.float32) - first[None, :], 0.0)
        total += difference
        squares += difference * difference
    return tl.sum(total, 0), tl.sum(squares, 0), first


@triton.jit
def _statistics(total, squares, first, rows, epsilon):
    """(mean, variance, 1 / standard deviation) from sums over all rows."""
    shift = total / rows
    variance = squares / rows - shift * shift
    # Not tl.maximum, which makes a number of what is none, and would hide that a training diverges.
    variance = tl.where(variance < 0.0, 0.0, variance)
    return first + shift, variance, 1.0 / tl.sqrt(variance + epsilon)


@triton.jit
def _keep_statistics(
    mean, variance, deviation, means, deviations, running_mean, running_variance, channel, present, rows, momentum
):
    tl.store(means + channel, mean, mask=present)
    tl.store(deviations + channel, deviation, mask=present)
    before = tl.load(running_mean + channel, mask=present)
    tl.store(running_mean + channel, before + momentum * (mean - before), mask=present)
    unbiased = variance * (rows / tl.maximum(rows - 1, 1).to(tl.float32))
    before = tl.load(running_variance + channel, mask=present)
    tl.store(running_variance + channel, before + momentum * (unbiased - before), mask=present)


@triton.jit
def _affine(weight, bias, mean, deviation, channel, present):
    """(a, b) with weight (x - mean) deviation + bias = a x + b."""
    scale = tl.load(weight + channel, mask=present) * deviation
    return scale, tl.load(bias + channel, mask=present) - mean * scale


@triton.jit
def _before_relu(x, dy, place, inside, scale, offset):
    """(x, g) of a tile, where g is the gradient before the ReLU."""
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    gradient = tl.load(dy + place, mask=inside, other=0.0).to(tl.float32)
    return value, tl.where(value * scale[None, :] + offset[None, :] > 0, gradient, 0.0)


@triton.jit
def _transform(
    x, y, weight, bias, mean, deviation, channel, present, begin, end, channels,
    row_tile: tl.constexpr,
):  # fmt: skip
    """y = relu(weight (x - mean) deviation + bias) for the rows from begin to end."""
    scale, offset = _affine(weight, bias, mean, deviation, channel, present)
    for start in range(begin, end, row_tile):
        place, inside = _tile(start, end, channel, present, channels, row_tile)
        value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        value = value * scale[None, :] + offset[None, :]
        value = tl.where(value < 0.0, 0.0, value)
        tl.store(y + place, value.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _gradient_sums(
    x, dy, weight, bias, mean, deviation, channel, present, begin, end, channels,
    row_tile: tl.constexpr, channel_tile: tl.constexpr,
):  # fmt: skip
    """Sums over rows of g, the gradient before the ReLU, and of g x', where x' is x normalised."""
    scale, offset = _affine(weight, bias, mean, deviation, channel, present)
    total = tl.zeros([row_tile, channel_tile], tl.float32)
    products = tl.zeros([row_tile, channel_tile], tl.float32)
    for start in range(begin, end, row_tile):
        place, inside = _tile(start, end, channel, present, channels, row_tile)
        value, gradient = _before_relu(x, dy, place, inside, scale, offset)
        total += gradient
        products += gradient * (value - mean[None, :]) * deviation[None, :]
    return tl.sum(total, 0), tl.sum(products, 0)


@triton.jit
def _input_gradient(
    x, dy, dx, weight, bias, mean, deviation, total, products, channel, present, begin, end, rows, channels,
    row_tile: tl.constexpr,
):  # fmt: skip
    """dx = weight deviation (g - mean of g - x' mean of g x') for the rows from begin to end."""
    scale, offset = _affine(weight, bias, mean, deviation, channel, present)
    constant, slope = total / rows, products / rows * deviation
    for start in range(begin, end, row_tile):
        place, inside = _tile(start, end, channel, present, channels, row_tile)
        value, gradient = _before_relu(x, dy, place, inside, scale, offset)
        result = scale[None, :] * (gradient - constant[None, :] - slope[None, :] * (value - mean[None, :]))
        tl.store(dx + place, result.to(dx.dtype.element_ty), mask=inside)


@triton.jit
def _forward_few_rows(
    x, y, weight, bias, running_mean, running_variance, means, deviations, rows, channels, momentum, epsilon,
    row_tile: tl.constexpr, channel_tile: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * channel_tile + tl.arange(0, channel_tile)
    present = channel < channels
    total, squares, first = _sums(x, channel, present, 0, rows, channels, row_tile, channel_tile)
    mean, variance, deviation = _statistics(total, squares, first, rows, epsilon)
    _keep_statistics(
        mean, variance, deviation, means, deviations, running_mean, running_variance, channel, present, rows, momentum
    )
    _transform(x, y, weight, bias, mean, deviation, channel, present, 0, rows, channels, row_tile)


@triton.jit
def _backward_few_rows(
    x, dy, dx, weight, bias, means, deviations, dweight, dbias, rows, channels,
    row_tile: tl.constexpr, channel_tile: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * channel_tile + tl.arange(0, channel_tile)
    present = channel < channels
    mean = tl.load(means + channel, mask=present, other=0.0)
    deviation = tl.load(deviations + channel, mask=present, other=0.0)
    total, products = _gradient_sums(
        x, dy, weight, bias, mean, deviation, channel, present, 0, rows, channels, row_tile, channel_tile
    )
    tl.store(dbias + channel, total, mask=present)
    tl.store(dweight + channel, products, mask=present)
    _input_gradient(
        x, dy, dx, weight, bias, mean, deviation, total, products, channel, present, 0, rows, rows, channels, row_tile
    )


@triton.jit
def _forward_sums(
    x, parts, rows, part, channels,
    row_tile: tl.constexpr, channel_tile: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * channel_tile + tl.arange(0, channel_tile)
    present = channel < channels
    begin = tl.program_id(1) * part
    total, squares, _ = _sums(
        x, channel, present, begin, tl.minimum(begin + part, rows), channels, row_tile, channel_tile
    )
    place = parts + tl.program_id(1) * 2 * channels + channel
    tl.store(place, total, mask=present)
    tl.store(place + channels, squares, mask=present)


@triton.jit
def _added_up(parts, channel, present, channels, part_count: tl.constexpr):
    """Both sums over all rows from those over parts of them."""
    place = parts + tl.arange(0, part_count)[:, None] * 2 * channels + channel[None, :]
    one = tl.load(place, mask=present[None, :], other=0.0)
    other = tl.load(place + channels, mask=present[None, :], other=0.0)
    return tl.sum(one, 0), tl.sum(other, 0)


@triton.jit
def _forward_many_rows(
    x, y, parts, weight, bias, running_mean, running_variance, means, deviations, rows, part, channels, momentum,
    epsilon,
    row_tile: tl.constexpr, channel_tile: tl.constexpr, part_count: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * channel_tile + tl.arange(0, channel_tile)
    present = channel < channels
    total, squares = _added_up(parts, channel, present, channels, part_count)
    first = tl.load(x + channel, mask=present, other=0.0).to(tl.float32)
    mean, variance, deviation = _statistics(total, squares, first, rows, epsilon)
    if tl.program_id(1) == 0:
        _keep_statistics(
            mean, variance, deviation, means, deviations, running_mean, running_variance, channel, present, rows,
            momentum,
        )  # fmt: skip
    begin = tl.program_id(1) * part
    end = tl.minimum(begin + part, rows)
    _transform(x, y, weight, bias, mean, deviation, channel, present, begin, end, channels, row_tile)


@triton.jit
def _backward_sums(
    x, dy, parts, weight, bias, means, deviations, rows, part, channels,
    row_tile: tl.constexpr, channel_tile: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * channel_tile + tl.arange(0, channel_tile)
    present = channel < channels
    mean = tl.load(means + channel, mask=present, other=0.0)
    deviation = tl.load(deviations + channel, mask=present, other=0.0)
    begin = tl.program_id(1) * part
    end = tl.minimum(begin + part, rows)
    total, products = _gradient_sums(
        x, dy, weight, bias, mean, deviation, channel, present, begin, end, channels, row_tile, channel_tile
    )
    place = parts + tl.program_id(1) * 2 * channels + channel
    tl.store(place, total, mask=present)
    tl.store(place + channels, products, mask=present)


@triton.jit
def _backward_many_rows(
    x, dy, dx, parts, weight, bias, means, deviations, dweight, dbias, rows, part, channels,
    row_tile: tl.constexpr, channel_tile: tl.constexpr, part_count: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * channel_tile + tl.arange(0, channel_tile)
    present = channel < channels
    total, products = _added_up(parts, channel, present, channels, part_count)
    if tl.program_id(1) == 0:
        tl.store(dbias + channel, total, mask=present)
        tl.store(dweight + channel, products, mask=present)
    mean = tl.load(means + channel, mask=present, other=0.0)
    deviation = tl.load(deviations + channel, mask=present, other=0.0)
    begin = tl.program_id(1) * part
    end = tl.minimum(begin + part, rows)
    _input_gradient(
        x,
        dy,
        dx,
        weight,
        bias,
        mean,
        deviation,
        total,
        products,
        channel,
        present,
        begin,
        end,
        rows,
        channels,
        row_tile,
    )


class BatchNormReLU(torch.autograd.Function):
    """sigma(bn(x)) in training: `apply(x, weight, bias, running_mean, running_var, momentum, eps)`.

    x is N x c x h x w in the layout channels_last, in float32 or half precision; all vectors are float32. The running
    statistics are updated in place. As in PyTorch, x must not be changed before the backward pass.
    """

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] - torch declares it with *args
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_variance: Tensor,
        momentum: float,
        epsilon: float,
    ) -> Tensor:
        rows, channels = x.numel() // x.shape[1], x.shape[1]
        y = torch.empty_like(x)
        means, deviations = torch.empty(2, channels, dtype=torch.float32, device=x.device).unbind()
        vectors = (weight, bias, running_mean, running_variance, means, deviations)
        if rows <= FEW_ROWS:
            grid, tile = _few_rows(channels)
            _launch(_forward_few_rows, grid, x, y, *vectors, rows, channels, momentum, epsilon, *tile)
        else:
            split = _many_rows(x)
            _launch(_forward_sums, split.sums, x, split.parts, rows, split.summed, channels, *split.tile)
            numbers = (rows, split.changed, channels, momentum, epsilon, *split.tile, len(split.parts))
            _launch(_forward_many_rows, split.changes, x, y, split.parts, *vectors, *numbers)
        ctx.save_for_backward(x, weight, bias, means, deviations)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, bias, means, deviations = ctx.saved_tensors
        rows, channels = x.numel() // x.shape[1], x.shape[1]
        dy = dy.contiguous(memory_format=torch.channels_last)
        dx = torch.empty_like(x)
        dweight, dbias = torch.empty(2, channels, dtype=torch.float32, device=x.device).unbind()
        vectors, gradients = (weight, bias, means, deviations), (dweight, dbias)
        if rows <= FEW_ROWS:
            grid, tile = _few_rows(channels)
            _launch(_backward_few_rows, grid, x, dy, dx, *vectors, *gradients, rows, channels, *tile)
        else:
            split = _many_rows(x)
            _launch(_backward_sums, split.sums, x, dy, split.parts, *vectors, rows, split.summed, channels, *split.tile)
            numbers = (rows, split.changed, channels, *split.tile, len(split.parts))
            _launch(_backward_many_rows, split.changes, x, dy, dx, split.parts, *vectors, *gradients, *numbers)
        return dx, dweight, dbias, None, None, None, None


def _launch(kernel: Any, grid: tuple[int, ...], *arguments: Any) -> None:
    kernel[grid](*arguments, num_warps=_WARPS)


def _few_rows(channels: int) -> tuple[tuple[int, ...], tuple[int, int]]:
    """(grid, rows and channels of a tile): about 64 programs, as each reads all rows of its channels."""
    width = min(max(triton.next_power_of_2(channels) // 64, 2), 8)
    return (triton.cdiv(channels, width),), (_TILE // width, width)


class _Split(NamedTuple):
    """How many rows are split among programs.

    Args:
        parts: room for the sums over parts of the rows, parts x 2 x channels.
        tile: rows and channels of a tile.
        sums: grid of the kernel that takes the sums.
        summed: rows of each of its programs.
        changes: grid of the kernel that adds them up and changes the rows.
        changed: rows of each of its programs, some tiles.
    """

    parts: Tensor
    tile: tuple[int, int]
    sums: tuple[int, int]
    summed: int
    changes: tuple[int, int]
    changed: int


def _many_rows(x: Tensor) -> _Split:
    rows, channels = x.numel() // x.shape[1], x.shape[1]
    count = _PARTS if rows < _MORE_ROWS else _MORE_PARTS
    parts = torch.empty(count, 2, channels, dtype=torch.float32, device=x.device)
    # 32 channels in half precision are 64 bytes, two of the pieces in which a GPU reads memory.
    width = min(triton.next_power_of_2(channels), 32)
    blocks, tile = triton.cdiv(channels, width), _TILE // width
    changed = tile * triton.cdiv(triton.cdiv(rows, tile), max(_PROGRAMS // blocks, 1))
    changes = (blocks, triton.cdiv(rows, changed))
    return _Split(parts, (tile, width), (blocks, count), triton.cdiv(rows, count), changes, changed)
