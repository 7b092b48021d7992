"""The memory of a training on a GPU, in closed form: no module is built.

In training the forward pass keeps tensors for the backward pass. They take nearly all of the memory. Which tensors
these are follows from the operations: a convolution keeps its input, a batch norm its input, and a ReLU its output.
Additions, averages over channel pairs and repeated channels keep nothing. A tensor that two operations keep counts
once. Convolutions compute in half precision, so every kept value takes two bytes (torch.autocast).
"""

from __future__ import annotations

from functools import lru_cache

from .config import ArchitectureConfig
from .cost import count_weights

_HALF, _SINGLE = 2, 4
"""Bytes of a value in half precision and in float32."""

_TEMPORARY_ACTIVATIONS = 6
"""Tensors of the largest shape that exist beside the kept ones.

In the backward pass these are the gradients of features, residual and increment, and what a step computes from them. In
evaluation these are features, residual, increment, and what a step computes from them.
"""

_RESERVE = 1.25
"""What PyTorch's allocator takes of the memory, for each byte in a tensor. Assumed, not measured yet."""

_WORKSPACES = 512 * 2**20
"""Bytes of the workspaces of cuDNN and cuBLAS, and of the stacks of gathered gradients, which take up to 32 MiB in half
precision (gathered_gradients.LEFT_VALUES). Assumed, not measured yet."""


def training_bytes(
    config: ArchitectureConfig,
    image_size: int,
    batch_size: int,
    evaluation_batch: int,
    average: bool = False,
    value_bytes: int = _HALF,
    second_moments: bool = False,
) -> int:
    """Bytes that PyTorch's allocator takes on a GPU to train a network, without the data set.

    Training and evaluation are added up, because a recorded training keeps its memory during an evaluation.

    Args:
        config: the network.
        image_size: pixels per side.
        batch_size: images of a training step.
        evaluation_batch: images that are evaluated at the same time.
        average: an average of the weights is kept, too.
        value_bytes: bytes of a value of an activation.
        second_moments: the optimizer keeps means of the squared gradients, too, as AdamW does.
    """
    image = config.in_channels * image_size**2 * (1 + _SINGLE)  # as it is stored, and normalised
    temporary = image + value_bytes * _TEMPORARY_ACTIVATIONS * largest_activation(config, image_size)
    training = batch_size * (value_bytes * kept_values(config, image_size) + temporary)
    weights = parameter_bytes(config, average, second_moments) + value_bytes * scaled_weights(config)
    tensors = training + evaluation_batch * temporary + weights
    return round(_RESERVE * tensors) + _WORKSPACES


def parameter_bytes(config: ArchitectureConfig, average: bool = False, second_moments: bool = False) -> int:
    """Bytes that grow with the weights: weights, gradients, the optimizer's, average, and copies in half precision."""
    return count_weights(config) * (_SINGLE * (3 + average + second_moments) + 2 * _HALF)


def scaled_weights(config: ArchitectureConfig) -> int:
    """Values of A times a coefficient, of which the forward pass keeps one copy for each step with a polynomial."""
    config = config.canonical()
    if not config.degree:
        return 0
    doubled = 2 if config.family == "mgiad" else 1
    total = 0
    for steps, hierarchy in zip(config.steps, config.channel_hierarchies, strict=True):
        grouped = sum(config.kernel_size**2 * c * c // config.groups(c) for c in hierarchy[:-1])
        total += doubled * steps * (grouped + 9 * hierarchy[-1] ** 2)
    return total


def largest_activation(config: ArchitectureConfig, image_size: int) -> int:
    """Values of the largest activation of one image: channels x height x width, over the resolution levels."""
    sizes = config.level_sizes(image_size)
    return max(channels * size**2 for channels, size in zip(config.channels, sizes, strict=True))


@lru_cache(maxsize=2**14)
def kept_values(config: ArchitectureConfig, image_size: int) -> int:
    """Values of the activations of one image that the forward pass keeps, in the form that networks have on GPUs."""
    config = config.canonical()
    level_channels = _STAGES.get(config.family, _multigrid_level)
    sizes = config.level_sizes(image_size)
    # Of the stem: the image, and the convolution's output.
    values = config.in_channels * image_size**2 + config.channels[0] * sizes[0] ** 2
    for level, size in enumerate(sizes):
        values += level_channels(config, level) * size**2
    return values


# The functions below return channels: the sum over the kept tensors of a level. The tensor that enters the first level,
# the output of the stem's ReLU, belongs to that level. The tensors that a transfer keeps belong to the level that they
# have the size of.


def _resnet_stage(config: ArchitectureConfig, level: int) -> int:
    """Each block keeps both convolutions' outputs and both ReLUs'; a projection also keeps its convolution's output."""
    channels = config.channels[level]
    entry = channels  # level 0: the stem's ReLU; other levels: the output of the projection
    return entry + 4 * channels * config.stage_blocks[level]


def _mgic_stage(config: ArchitectureConfig, level: int) -> int:
    """Each block keeps four tensors of its smoother. With a coarser level it keeps four more: see mgic.MGICBlock."""
    hierarchy = config.channel_hierarchies[level]
    entry = hierarchy[0] * (1 if level == 0 else 2)  # other levels: a depthwise convolution's output, and its ReLU's
    # With a coarser level: the input of the batch norm and that of the smoother on the finer level; the restricted
    # features and the difference on the coarser one.
    block = 4 * sum(hierarchy) + 2 * sum(hierarchy[:-1]) + 2 * sum(hierarchy[1:])
    return entry + config.stage_blocks[level] * block


def _multigrid_level(config: ArchitectureConfig, level: int) -> int:
    """A level of MgNet or MGiaD: its smoother, and the transfers' inputs and outputs of this size."""
    channels, steps, last = config.channels[level], config.steps[level], level == len(config.channels) - 1
    hierarchy = config.channel_hierarchies[level]
    dense = level > 0 and config.resolution_transfer == "dense"
    # Both convolutions' outputs and the ReLU's output of Pi; that of R is the residual of the first step.
    entry = 3 * channels * dense
    if config.family == "mgnet" and config.sharing == "none":
        return entry + channels * _unshared_smoother(steps, first=level == 0, last=last, dense=dense)
    if config.family == "mgiad":
        smoother = _channel_cycle(hierarchy, steps, config.channel_transfer == "learned", config.degree)
    else:
        smoother = _smoothing_steps(channels, steps, config.degree)
    single = level == 0 and config.family == "mgnet" and steps == 1
    # The transfers keep u and r. After a single step from u = 0 on, u is the step's increment, which counts already.
    leaving = 0 if last else channels * (1 if single else 2)
    return entry + smoother + leaving


def _smoothing_steps(channels: int, steps: int, degree: int | None) -> int:
    """smoothers.SmoothingStep keeps the residual, the first ReLU's output, the output of B, and the increment.

    A polynomial of degree 0 has the first ReLU's output as its own. One of a higher degree keeps each value of Horner's
    rule, of which the last is the output of B.
    """
    return (4 if degree is None else 3 + degree) * channels * steps


def _unshared_smoother(steps: int, first: bool, last: bool, dense: bool) -> int:
    """Tensors that smoothers.UnsharedSmoother keeps: beside those of its steps, the features that some A reads."""
    has_operators = not (last and steps == 1)
    sums = (steps - first) - (1 if last and steps > first else 0)  # features after each step; the last one if read
    entering = 1 if not first and has_operators and not dense else 0  # a dense transfer keeps its output itself
    return 4 * steps + sums + entering + (0 if last else 1)


def _channel_cycle(hierarchy: tuple[int, ...], steps: int, learned: bool, degree: int | None) -> int:
    """mgiad.ChannelCycle: 2 nu steps on each channel level, and what the transfers between channel levels keep."""
    channels, coarser = hierarchy[0], hierarchy[1:]
    kept = _smoothing_steps(channels, 2 * steps, degree)
    if coarser:
        kept += _channel_cycle(coarser, steps, learned, degree)
        # A reads the correction. Without weights, the repeats of a single channel are a view of it.
        kept += channels if learned or coarser[0] > 1 else 1
        kept += (channels + coarser[0]) * learned  # both transfers read their inputs
    return kept


_STAGES = {"resnet": _resnet_stage, "mgic": _mgic_stage}
