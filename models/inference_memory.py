"""The memory of an inference on one image, in closed form: no module is built.

What is counted is a runtime that executes the exported graph node after node, in the order of its file:

- A tensor exists from the node that computes it to the last node that reads it. The peak is the largest sum of the
  tensors that exist while a node runs, among them its inputs and its outputs. The image counts as a tensor.
- Nodes that work on each value alone write into the memory of an input of the same size, if no later node reads that
  input: batch norm, ReLU, addition, subtraction, multiplication by a number, and the normalisation of the image.
- Reshaping takes no memory. Transposing and repeating copy.
- The batch is one image. Every value takes 4 bytes in float32. Only the image, which comes as uint8, takes 1 byte until
  it is converted. In int8 every value takes 1 byte, the image's too, and it is converted in place.

Weights do not count: they may stay in the flash memory (`flash_memory`). Neither do the workspaces of single nodes,
which each runtime chooses itself.
"""

from __future__ import annotations

from functools import lru_cache

from .config import ArchitectureConfig
from .cost import total_cost

_SINGLE = 4
"""Bytes of a value in float32."""


def activation_memory(config: ArchitectureConfig, image_size: int, int8: bool = False) -> int:
    """Peak bytes of the activations while the network classifies one image."""
    peak = peak_values(config, image_size)
    if int8:
        return peak
    image = config.in_channels * image_size**2
    return max(_SINGLE * peak, (1 + _SINGLE) * image)  # The conversion reads the image and writes it in float32.


def flash_memory(config: ArchitectureConfig, int8: bool = False) -> int:
    """Bytes of the numbers that a trained network stores, as in its safetensors file without the file's header.

    These are the weights, and the running means and variances of the batch norms, 4 bytes each in float32. In int8 the
    weights of convolutions and of the linear layer take 1 byte each. All others keep 4 bytes, and each output channel
    of a convolution or of the linear layer has a scale of 4 bytes.
    """
    cost = total_cost(config, 8)
    if int8:
        return cost.matrix_weights + _SINGLE * (cost.weights - cost.matrix_weights + cost.statistics + cost.rows)
    return _SINGLE * (cost.weights + cost.statistics)


@lru_cache(maxsize=2**14)
def peak_values(config: ArchitectureConfig, image_size: int) -> int:
    """The largest number of values of activations that exist at the same time, for one image."""
    config = config.canonical()
    sizes, channels = config.level_sizes(image_size), config.channels
    values = [count * size**2 for count, size in zip(channels, sizes, strict=True)]  # of the features of each level
    stem = config.in_channels * image_size**2 + values[0]
    head = max(values[-1] + channels[-1], channels[-1] + config.num_classes)
    level_peak = _STAGES.get(config.family, _multigrid_level)
    return max(stem, head, *(level_peak(config, level, values) for level in range(len(values))))


# The functions below return values: the peak on a level and in the transfer to it. `values` has the number of values of
# the features of each level.


def _resnet_stage(config: ArchitectureConfig, level: int, values: list[int]) -> int:
    """A block's second convolution: its input and output, and the features that the shortcut reads."""
    own = values[level]
    usual = 3 * own
    if level == 0:
        return usual
    first = values[level - 1] + 2 * own
    return first if config.stage_blocks[level] == 1 else max(first, usual)


def _mgic_stage(config: ArchitectureConfig, level: int, values: list[int]) -> int:
    transfer = values[level - 1] + values[level] if level > 0 else 0
    hierarchy = config.channel_hierarchies[level]
    return max(transfer, _mgic_block(hierarchy, values[level], keeps_input=False))


def _mgic_block(hierarchy: tuple[int, ...], values: int, keeps_input: bool) -> int:
    """mgic.MGICBlock with its input: the coarser block beside the features; and the smoother on the corrected ones.

    Args:
        hierarchy: channels of this channel level and the coarser ones.
        values: of the features on this channel level.
        keeps_input: the input is read again after the block, so the correction cannot overwrite it.
    """
    if len(hierarchy) == 1:
        return 3 * values
    return max(values + _mgic_block(hierarchy[1:], values // 2, keeps_input=True), (3 + keeps_input) * values)


def _multigrid_level(config: ArchitectureConfig, level: int, values: list[int]) -> int:
    """A level of MgNet or MGiaD, with u and r; and the transfer of both to it: first Pi, then R."""
    own, first, last = values[level], level == 0, level == len(values) - 1
    transfer = 0 if first else max(2 * values[level - 1] + own, values[level - 1] + 2 * own)
    if config.family == "mgiad":
        smoother = _channel_cycle(config.channel_hierarchies[level], config.steps[level], config.degree, first, last)
    else:
        smoother = _smoothing_steps(config.steps[level], config.degree, first, last)
    return max(transfer, round(own * smoother))


def _smoothing_steps(steps: int, degree: int | None, first: bool, last: bool) -> int:
    """The peak of smoothing steps, in tensors of the level's size. Unshared steps keep f, shared ones r.

    Args:
        steps: their number.
        degree: of the polynomial in place of B; None: B is a convolution.
        first: the level starts from u = 0.
        last: nothing reads the residual after the last step.
    """
    return max(
        _smoothing_step(degree, has_features=index > 0 or not first, updates=index + 1 < steps or not last)
        for index in {0, min(1, steps - 1), steps - 1}
    )


def _smoothing_step(degree: int | None, has_features: bool, updates: bool) -> int:
    """One step: the features; the residual, if the step updates it; and the tensors that B or A work on.

    B works on two tensors. So does Horner's rule for a polynomial of degree 1; each further degree needs one more. The
    update of the residual needs the increment, A times the increment, and the residual.
    """
    depth = 1 if degree is None else degree
    return has_features + max(updates + 1 + depth, 3 * updates)


def _channel_cycle(hierarchy: tuple[int, ...], steps: int, degree: int | None, first: bool, last: bool) -> float:
    """The peak of mgiad.ChannelCycle, in tensors of the size of its finest channel level.

    A correction is added to features and residual in four tensors. Averages, repeats, and the 1x1 convolutions need no
    more. While a coarser channel level is smoothed, features and residual of this one are kept.
    """
    if len(hierarchy) == 1:
        return _smoothing_steps(2 * steps, degree, first, last)
    before = _smoothing_steps(steps, degree, first, last=False)
    after = _smoothing_steps(steps, degree, first=False, last=last)
    coarser = 2 + _channel_cycle(hierarchy[1:], steps, degree, first=True, last=True) / 2
    return max(before, 4, coarser, after)


_STAGES = {"resnet": _resnet_stage, "mgic": _mgic_stage}
