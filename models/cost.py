"""Exact weights and multiply-accumulates (MACs) of a config, in closed form: no module is built.

Weights are trainable parameters. Matrix weights are those of convolutions and of the linear layer's matrix; their rows
are the output channels. Statistics are the running means and variances of batch norms.

MACs are the multiplications that the modules of this package run on one image in convolutions and in the linear layer;
grouped MACs are those in convolutions of several groups. Batch norm, ReLU, pooling and additions count nothing.

The rest is what else takes time. Calls are the runs of convolutions and of transfers between channel levels, and the
linear layer. Groups are counted in each run of a grouped convolution that is not depthwise, and unfolded values are
those that it multiplies: for each output position all inputs under its kernels. Written values are those that
convolutions write, and transferred ones those that transfers without weights between channel levels write.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from .config import ArchitectureConfig


@dataclass(frozen=True)
class Cost:
    """What a part of a network costs; see above."""

    weights: int = 0
    macs: int = 0
    matrix_weights: int = 0
    rows: int = 0
    statistics: int = 0
    grouped_macs: int = 0
    calls: int = 0
    groups: int = 0
    unfolded: int = 0
    written: int = 0
    transferred: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*map(operator.add, vars(self).values(), vars(other).values()))

    def __mul__(self, count: int) -> Cost:
        """The cost of as many parts of this kind."""
        return Cost(*(value * count for value in vars(self).values()))


def count_weights(config: ArchitectureConfig) -> int:
    """Trainable parameters of `build_model(config)`."""
    return total_cost(config, 8).weights


def count_macs(config: ArchitectureConfig, image_size: int) -> int:
    """Multiply-accumulates of `build_model(config)` on one image_size x image_size image."""
    return total_cost(config, image_size).macs


def cost_by_part(config: ArchitectureConfig, image_size: int) -> list[tuple[str, Cost]]:
    """The parts of the network, by name and cost, in the order of the data flow: stem, levels and transfers, head."""
    # A stage of one block has nothing after its first block.
    return [(name, cost) for name, cost in _parts(config.canonical(), image_size) if cost != Cost()]


@lru_cache(maxsize=2**14)
def total_cost(config: ArchitectureConfig, image_size: int) -> Cost:
    """Weights and MACs of the whole network."""
    return total_of_parts(config.canonical(), image_size)


def total_of_parts(config: ArchitectureConfig, image_size: int) -> Cost:
    """Weights and MACs of a canonical form. Its numbers may be arrays, which those of the cost then are, too."""
    return sum((cost for _, cost in _parts(config, image_size)), Cost())


def _parts(config: ArchitectureConfig, image_size: int) -> Iterable[tuple[str, Cost]]:
    channels, sizes = config.channels, config.level_sizes(image_size)
    stem = _conv(config.in_channels, channels[0], sizes[0], config.stem_kernel)
    yield "stem", stem + _batch_norm(channels[0])
    level_parts = _STAGES.get(config.family, _multigrid_level)
    for level, level_size in enumerate(sizes):
        yield from level_parts(config, level, level_size)
    matrix, bias = channels[-1] * config.num_classes, config.num_classes
    yield "head", Cost(matrix + bias, matrix, matrix, rows=config.num_classes, calls=1)


def _conv(
    fan_in: int, fan_out: int, size: int, kernel: int = 3, groups: int = 1, runs: int = 1, copies: int = 1
) -> Cost:
    """Convolutions with `size` x `size` outputs: there are `copies`, which run `runs` times in all."""
    weights = kernel * kernel * fan_in * fan_out // groups
    stored, macs = copies * weights, runs * weights * size * size
    cost = Cost(stored, macs, stored, copies * fan_out, 0, macs * (groups > 1), runs)
    narrow = runs * ((groups > 1) & (groups < fan_in))
    unfolded = narrow * fan_in * (kernel * size) ** 2
    return cost + Cost(groups=narrow * groups, unfolded=unfolded, written=runs * fan_out * size * size)


def _batch_norm(channels: int, count: int = 1) -> Cost:
    return Cost(2 * channels, statistics=2 * channels) * count


def _resnet_stage(config: ArchitectureConfig, level: int, size: int) -> Iterable[tuple[str, Cost]]:
    channels = config.channels[level]
    block = (_conv(channels, channels, size) + _batch_norm(channels)) * 2
    blocks = config.stage_blocks[level]
    if level > 0:
        before = config.channels[level - 1]
        strided = _conv(before, channels, size) + _conv(channels, channels, size) + _batch_norm(channels, 2)
        projection = _conv(before, channels, size, kernel=1) + _batch_norm(channels)
        yield f"stage {level + 1}, first block", strided + projection
        blocks -= 1
    yield f"stage {level + 1}", block * blocks


def _mgic_stage(config: ArchitectureConfig, level: int, size: int) -> Iterable[tuple[str, Cost]]:
    channels = config.channels[level]
    if level > 0:
        before = config.channels[level - 1]
        yield f"transfer to stage {level + 1}", _conv(before, channels, size, groups=before) + _batch_norm(channels)
    hierarchy = config.channel_hierarchies[level]
    for fine, coarse in zip(hierarchy, (*hierarchy[1:], None), strict=True):
        groups = 1 if coarse is None else config.groups(fine)
        cost = (_conv(fine, fine, size, groups=groups) + _batch_norm(fine)) * 2
        if coarse is not None:
            cost += _channel_transfers(fine, coarse, size, groups) + _batch_norm(fine)
        yield f"stage {level + 1}, {fine} channels", cost * config.stage_blocks[level]


def _multigrid_level(config: ArchitectureConfig, level: int, size: int) -> Iterable[tuple[str, Cost]]:
    """A level of MgNet or MGiaD: the transfer to it, and its smoother."""
    channels, last = config.channels[level], level == len(config.channels) - 1
    if level > 0:
        before = config.channels[level - 1]
        groups = before if config.resolution_transfer == "depthwise" else 1
        transfer = _conv(before, channels, size, groups=groups)
        if config.resolution_transfer == "dense":
            transfer += _batch_norm(channels)
        yield f"transfer to level {level + 1}", transfer * 2
    steps, hierarchy = config.steps[level], config.channel_hierarchies[level]
    if config.family == "mgnet" and config.sharing == "none":
        yield f"level {level + 1}", _unshared_smoother(channels, steps, size, level == 0, last)
    elif len(hierarchy) == 1:
        doubled = 2 * steps if config.family == "mgiad" else steps  # Other levels have more channel levels.
        shares_b = config.family == "mgiad" or config.sharing == "AB"
        yield f"level {level + 1}", _shared_smoother(channels, doubled, size, shares_b, last, config.degree)
    else:
        yield from _channel_cycle(config, level, size, last)


def _shared_smoother(
    channels: int, steps: int, size: int, shares_b: bool, last: bool, degree: int | None = None
) -> Cost:
    """smoothers.SharedSmoother: A runs after every step, but not after the last one if nothing follows the level."""
    runs = steps - last
    if degree is not None:
        runs += degree * steps
        b = _coefficients(degree, steps)
    else:
        b = _conv(channels, channels, size, runs=steps) if shares_b else _conv(channels, channels, size) * steps
    a = _conv(channels, channels, size, runs=runs, copies=runs > 0)
    return a + b + _batch_norm(channels, 2 * steps)


def _channel_transfers(fine: int, coarse: int, size: int, groups: int) -> Cost:
    """Grouped 1x1 convolutions to a coarser channel level and back."""
    return _conv(fine, coarse, size, 1, groups) + _conv(coarse, fine, size, 1, groups)


def _coefficients(degree: int, steps: int) -> Cost:
    """Those of the polynomials. Multiplications by them count nothing, as those of batch norms."""
    return Cost(degree * steps)


def _unshared_smoother(channels: int, steps: int, size: int, first: bool, last: bool) -> Cost:
    """smoothers.UnsharedSmoother: one A for each step that needs one. The transfer runs the last A once more."""
    b = (_conv(channels, channels, size) + _batch_norm(channels, 2)) * steps
    runs = (0 if first else 1) + (steps - 1) + (0 if last else 1)
    single = steps == 1
    operators = steps - 1 + single * (not last) if first else steps - single * last
    return b + _conv(channels, channels, size, runs=runs * (operators > 0), copies=operators)


def _channel_cycle(config: ArchitectureConfig, level: int, size: int, last: bool) -> Iterable[tuple[str, Cost]]:
    """mgiad.ChannelCycle, one part per channel level, finest first."""
    hierarchy, steps = config.channel_hierarchies[level], config.steps[level]
    for depth, (fine, coarse) in enumerate(zip(hierarchy, (*hierarchy[1:], None), strict=True)):
        needs_residual = depth == 0 and not last
        if coarse is None:
            cost = _shared_smoother(fine, 2 * steps, size, shares_b=True, last=True, degree=config.degree)
        else:
            groups = config.groups(fine)
            runs_of_a = 2 * steps * (1 + (0 if config.degree is None else config.degree)) + needs_residual
            cost = _conv(fine, fine, size, config.kernel_size, groups, runs_of_a) + _batch_norm(fine, 4 * steps)
            if config.degree is None:
                cost += _conv(fine, fine, size, config.kernel_size, groups, runs=2 * steps)
            else:
                cost += _coefficients(config.degree, 2 * steps)
            if config.channel_transfer == "learned":
                cost += _channel_transfers(fine, coarse, size, groups)
            else:
                cost += Cost(calls=2, transferred=(fine + coarse) * size * size)
        yield f"level {level + 1}, {fine} channels", cost


_STAGES = {"resnet": _resnet_stage, "mgic": _mgic_stage}
