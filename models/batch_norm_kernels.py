"""Batch norm (Ioffe & Szegedy 2015) followed by ReLU, as one or two GPU kernels for each pass, written in Triton.

PyTorch takes five kernels for the forward pass (statistics, their running averages, normalisation, ReLU, and a counter
that is set to zero) and four for the backward pass. The networks spend a third of a step in them, because most
activations are small: a kernel then takes as long as its launch. For the same reason these kernels do the additions
around a batch norm: its input may be a sum, which may have a further use, its output may have two uses, and the
gradients of uses are added up.

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
from torch.autograd.function import once_differentiable

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
def _input(x, y, place, inside, is_sum: tl.constexpr):
    """x or x + y, rounded to their type."""
    value = tl.load(x + place, mask=inside, other=0.0)
    if is_sum:
        value = (value.to(tl.float32) + tl.load(y + place, mask=inside, other=0.0).to(tl.float32)).to(value.dtype)
    return value.to(tl.float32)


@triton.jit
def _sums(
    x, y, r, channel, present, begin, end, channels,
    is_sum: tl.constexpr, row_tile: tl.constexpr, channel_tile: tl.constexpr,
):  # fmt: skip
    """(sums of r - first row, sums of their squares, first row) over the rows from begin to end.

    r is x, or x + y, which is stored.
    """
    first = _input(x, y, channel, present, is_sum)
    total = tl.zeros([row_tile, channel_tile], tl.float32)
    squares = tl.zeros([row_tile, channel_tile], tl.float32)
    for start in range(begin, end, row_tile):
        place, inside = _tile(start, end, channel, present, channels, row_tile)
        value = _input(x, y, place, inside, is_sum)
        if is_sum:
            tl.store(r + place, value.to(r.dtype.element_ty), mask=inside)
        difference = tl.where(inside, value - first[None, :], 0.0)
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
def _before_relu(x, dy, more, place, inside, scale, offset, has_more: tl.constexpr):
    """(x, g) of a tile, where g is the gradient before the ReLU. The gradient after it is dy, or dy + more."""
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    gradient = tl.load(dy + place, mask=inside, other=0.0).to(tl.float32)
    if has_more:
        gradient += tl.load(more + place, mask=inside, other=0.0).to(tl.float32)
    return value, tl.where(value * scale[None, :] + offset[None, :] > 0, gradient, 0.0)


@triton.jit
def _transform(
    x, y, z, weight, bias, mean, deviation, channel, present, begin, end, channels,
    is_sum: tl.constexpr, row_tile: tl.constexpr,
):  # fmt: skip
    """z = relu(weight (r - mean) deviation + bias) for the rows from begin to end, where r is x or x + y."""
    scale, offset = _affine(weight, bias, mean, deviation, channel, present)
    for start in range(begin, end, row_tile):
        place, inside = _tile(start, end, channel, present, channels, row_tile)
        value = _input(x, y, place, inside, is_sum) * scale[None, :] + offset[None, :]
        value = tl.where(value < 0.0, 0.0, value)
        tl.store(z + place, value.to(z.dtype.element_ty), mask=inside)


@triton.jit
def _gradient_sums(
    x, dy, more, weight, bias, mean, deviation, channel, present, begin, end, channels,
    has_more: tl.constexpr, row_tile: tl.constexpr, channel_tile: tl.constexpr,
):  # fmt: skip
    """Sums over rows of g, the gradient before the ReLU, and of g x', where x' is x normalised."""
    scale, offset = _affine(weight, bias, mean, deviation, channel, present)
    total = tl.zeros([row_tile, channel_tile], tl.float32)
    products = tl.zeros([row_tile, channel_tile], tl.float32)
    for start in range(begin, end, row_tile):
        place, inside = _tile(start, end, channel, present, channels, row_tile)
        value, gradient = _before_relu(x, dy, more, place, inside, scale, offset, has_more)
        total += gradient
        products += gradient * (value - mean[None, :]) * deviation[None, :]
    return tl.sum(total, 0), tl.sum(products, 0)


@triton.jit
def _input_gradient(
    x, dy, more, dr, dx, weight, bias, mean, deviation, total, products, channel, present, begin, end, rows, channels,
    has_more: tl.constexpr, has_dr: tl.constexpr, row_tile: tl.constexpr,
):  # fmt: skip
    """dx = weight deviation (g - mean of g - x' mean of g x') + dr for the rows from begin to end."""
    scale, offset = _affine(weight, bias, mean, deviation, channel, present)
    constant, slope = total / rows, products / rows * deviation
    for start in range(begin, end, row_tile):
        place, inside = _tile(start, end, channel, present, channels, row_tile)
        value, gradient = _before_relu(x, dy, more, place, inside, scale, offset, has_more)
        result = scale[None, :] * (gradient - constant[None, :] - slope[None, :] * (value - mean[None, :]))
        if has_dr:
            result += tl.load(dr + place, mask=inside, other=0.0).to(tl.float32)
        tl.store(dx + place, result.to(dx.dtype.element_ty), mask=inside)


@triton.jit
def _forward_few_rows(
    x, y, r, z, weight, bias, running_mean, running_variance, means, deviations, rows, channels, momentum, epsilon,
    is_sum: tl.constexpr, row_tile: tl.constexpr, channel_tile: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * channel_tile + tl.arange(0, channel_tile)
    present = channel < channels
    total, squares, first = _sums(x, y, r, channel, present, 0, rows, channels, is_sum, row_tile, channel_tile)
    mean, variance, deviation = _statistics(total, squares, first, rows, epsilon)
    _keep_statistics(
        mean, variance, deviation, means, deviations, running_mean, running_variance, channel, present, rows, momentum
    )
    # Adds up again, because what one thread has stored another could read too early.
    _transform(x, y, z, weight, bias, mean, deviation, channel, present, 0, rows, channels, is_sum, row_tile)


@triton.jit
def _backward_few_rows(
    x, dy, more, dr, dx, weight, bias, means, deviations, dweight, dbias, rows, channels,
    has_more: tl.constexpr, has_dr: tl.constexpr, row_tile: tl.constexpr, channel_tile: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * channel_tile + tl.arange(0, channel_tile)
    present = channel < channels
    mean = tl.load(means + channel, mask=present, other=0.0)
    deviation = tl.load(deviations + channel, mask=present, other=0.0)
    total, products = _gradient_sums(
        x, dy, more, weight, bias, mean, deviation, channel, present, 0, rows, channels, has_more, row_tile,
        channel_tile,
    )  # fmt: skip
    tl.store(dbias + channel, total, mask=present)
    tl.store(dweight + channel, products, mask=present)
    _input_gradient(
        x, dy, more, dr, dx, weight, bias, mean, deviation, total, products, channel, present, 0, rows, rows, channels,
        has_more, has_dr, row_tile,
    )  # fmt: skip


@triton.jit
def _forward_sums(
    x, y, r, parts, rows, part, channels,
    is_sum: tl.constexpr, row_tile: tl.constexpr, channel_tile: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * channel_tile + tl.arange(0, channel_tile)
    present = channel < channels
    begin = tl.program_id(1) * part
    end = tl.minimum(begin + part, rows)
    total, squares, _ = _sums(x, y, r, channel, present, begin, end, channels, is_sum, row_tile, channel_tile)
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
    r, z, parts, weight, bias, running_mean, running_variance, means, deviations, rows, part, channels, momentum,
    epsilon,
    row_tile: tl.constexpr, channel_tile: tl.constexpr, part_count: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * channel_tile + tl.arange(0, channel_tile)
    present = channel < channels
    total, squares = _added_up(parts, channel, present, channels, part_count)
    first = tl.load(r + channel, mask=present, other=0.0).to(tl.float32)
    mean, variance, deviation = _statistics(total, squares, first, rows, epsilon)
    if tl.program_id(1) == 0:
        _keep_statistics(
            mean, variance, deviation, means, deviations, running_mean, running_variance, channel, present, rows,
            momentum,
        )  # fmt: skip
    begin = tl.program_id(1) * part
    end = tl.minimum(begin + part, rows)
    no_sum: tl.constexpr = False  # pyright: ignore[reportAssignmentType] - Triton's compiler makes it one
    _transform(r, r, z, weight, bias, mean, deviation, channel, present, begin, end, channels, no_sum, row_tile)


@triton.jit
def _backward_sums(
    x, dy, more, parts, weight, bias, means, deviations, rows, part, channels,
    has_more: tl.constexpr, row_tile: tl.constexpr, channel_tile: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * channel_tile + tl.arange(0, channel_tile)
    present = channel < channels
    mean = tl.load(means + channel, mask=present, other=0.0)
    deviation = tl.load(deviations + channel, mask=present, other=0.0)
    begin = tl.program_id(1) * part
    end = tl.minimum(begin + part, rows)
    total, products = _gradient_sums(
        x, dy, more, weight, bias, mean, deviation, channel, present, begin, end, channels, has_more, row_tile,
        channel_tile,
    )  # fmt: skip
    place = parts + tl.program_id(1) * 2 * channels + channel
    tl.store(place, total, mask=present)
    tl.store(place + channels, products, mask=present)


@triton.jit
def _backward_many_rows(
    x, dy, more, dr, dx, parts, weight, bias, means, deviations, dweight, dbias, rows, part, channels,
    has_more: tl.constexpr, has_dr: tl.constexpr, row_tile: tl.constexpr, channel_tile: tl.constexpr,
    part_count: tl.constexpr,
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
        x, dy, more, dr, dx, weight, bias, mean, deviation, total, products, channel, present, begin, end, rows,
        channels, has_more, has_dr, row_tile,
    )  # fmt: skip


class BatchNormReLU(torch.autograd.Function):
    """Batch norm and ReLU in training: `apply(x, y, weight, bias, running_mean, running_var, momentum, eps)`.

    Returns (z, z', r) with r = x + y and z = sigma(bn(r)). z' is z once more, for a second use. y may be None; then
    z = sigma(bn(x)), and r is None.

    x and y are N x c x h x w in the layout channels_last, in float32 or half precision; all vectors are float32. The
    running statistics are updated in place. As in PyTorch, x or r must not be changed before the backward pass.
    """

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] - torch declares it with *args
        ctx: Any,
        x: Tensor,
        y: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_variance: Tensor,
        momentum: float,
        epsilon: float,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        rows, channels = x.numel() // x.shape[1], x.shape[1]
        z = torch.empty_like(x)
        r = x if y is None else torch.empty_like(x)
        # Where there is no tensor, kernels get another one, which they do not use.
        inputs = (x, x if y is None else y.to(x.dtype).contiguous(memory_format=torch.channels_last), r)
        means, deviations = torch.empty(2, channels, dtype=torch.float32, device=x.device).unbind()
        vectors = (weight, bias, running_mean, running_variance, means, deviations)
        is_sum = y is not None
        if rows <= FEW_ROWS:
            grid, tile = _few_rows(channels)
            _launch(_forward_few_rows, grid, *inputs, z, *vectors, rows, channels, momentum, epsilon, is_sum, *tile)
        else:
            split = _many_rows(x)
            numbers = (rows, split.summed, channels)
            _launch(_forward_sums, split.sums, *inputs, split.parts, *numbers, is_sum, *split.tile)
            numbers = (rows, split.changed, channels, momentum, epsilon)
            _launch(
                _forward_many_rows, split.changes, r, z, split.parts, *vectors, *numbers, *split.tile, len(split.parts)
            )
        ctx.save_for_backward(r, weight, bias, means, deviations)
        ctx.set_materialize_grads(False)
        return z, z.detach(), r if is_sum else None

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, dz: Tensor | None, more: Tensor | None, dr: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        r, weight, bias, means, deviations = ctx.saved_tensors
        rows, channels = r.numel() // r.shape[1], r.shape[1]
        if dz is None:
            dz, more = more, None
        if dz is None:
            return dr, dr, None, None, None, None, None, None
        has_more, has_dr = more is not None, dr is not None
        dz = dz.contiguous(memory_format=torch.channels_last)
        more = dz if more is None else more.contiguous(memory_format=torch.channels_last)
        dr = dz if dr is None else dr.contiguous(memory_format=torch.channels_last)
        dx = torch.empty_like(r)
        dweight, dbias = torch.empty(2, channels, dtype=torch.float32, device=r.device).unbind()
        vectors, results = (weight, bias, means, deviations), (dweight, dbias)
        if rows <= FEW_ROWS:
            grid, tile = _few_rows(channels)
            tensors = (r, dz, more, dr, dx, *vectors, *results)
            _launch(_backward_few_rows, grid, *tensors, rows, channels, has_more, has_dr, *tile)
        else:
            split = _many_rows(r)
            numbers = (rows, split.summed, channels)
            _launch(_backward_sums, split.sums, r, dz, more, split.parts, *vectors, *numbers, has_more, *split.tile)
            tensors = (r, dz, more, dr, dx, split.parts, *vectors, *results)
            numbers = (rows, split.changed, channels, has_more, has_dr)
            _launch(_backward_many_rows, split.changes, *tensors, *numbers, *split.tile, len(split.parts))
        wanted = ctx.needs_input_grad[1]
        return dx, dx if wanted else None, dweight, dbias, None, None, None, None


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
