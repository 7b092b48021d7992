"""Random valid architectures, and their networks with random numbers in every place."""

import pytest
import torch
from hypothesis import strategies as st
from torch import nn

from mgnas.errors import ConfigError
from mgnas.models import ArchitectureConfig
from mgnas.models.mgiad import build_mgiad
from mgnas.models.mgic import build_mgic
from mgnas.models.mgnet import build_mgnet
from mgnas.models.resnet import build_resnet
from mgnas.models.smoothers import SmoothingStep

_CHANNELS = (1, 3, 4, 6, 8, 12, 16, 20, 24, 32)
_GROUP_SIZES = (1, 2, 3, 4, 5, 6, 8, 12, 16, 48)
_SCALINGS = (1.0, 2.0, 3.0, 1.5, 0.5, 0.25)
_BUILDERS = {"resnet": build_resnet, "mgnet": build_mgnet, "mgic": build_mgic, "mgiad": build_mgiad}


@st.composite
def _channels(draw, nested: bool) -> list[int]:
    """Channels of 1 to 4 levels; if `nested`, each a multiple of the one before, as depthwise transfers need."""
    count = draw(st.integers(1, 4))
    if not nested:
        return draw(st.lists(st.sampled_from(_CHANNELS), min_size=count, max_size=count))
    channels = [draw(st.sampled_from(_CHANNELS))]
    while len(channels) < count:
        factor = draw(st.integers(1, 4))
        channels.append(channels[-1] * (factor if channels[-1] * factor <= 48 else 1))
    return channels


def _odd_part(number: int) -> int:
    return number // (number & -number)


@st.composite
def _architectures(draw) -> ArchitectureConfig:
    """Every setting varies, also those without effect on the family."""
    family = draw(st.sampled_from(("resnet", "mgnet", "mgic", "mgiad")))
    resolution_transfer = draw(st.sampled_from(("depthwise", "dense")))
    nested = family == "mgic" or (family != "resnet" and resolution_transfer == "depthwise")
    channels = draw(_channels(nested))
    scaling = draw(st.sampled_from(_SCALINGS))
    if any(count % scaling or count < scaling for count in channels):
        scaling = 1.0
    number = st.integers(1, 3)
    per_level = number | st.lists(number, min_size=len(channels), max_size=len(channels))
    # MGIC halves until it is below the threshold, which an odd number of channels can prevent.
    thresholds = (1 + max(map(_odd_part, channels)), 48) if family == "mgic" else (1, 8)
    values = {
        "family": family,
        "base_channels": [round(count / scaling) for count in channels],
        "channel_scaling": scaling,
        "stem_stride": draw(st.sampled_from((1, 1, 2, 4))),
        "smoothing_steps": draw(per_level),
        "kernel_size": draw(st.sampled_from((3, 5, 7))),
        "sharing": draw(st.sampled_from(("none", "A", "AB"))),
        "smoother": draw(st.sampled_from(("learned", "polynomial"))),
        "polynomial_degree": draw(st.integers(0, 3)),
        "residual_activation": draw(st.booleans()),
        "channel_levels": draw(st.none() | st.integers(1, 4)),
        "fully_coupled_channels": draw(st.integers(*thresholds)),
        "resolution_transfer": resolution_transfer,
        "channel_transfer": draw(st.sampled_from(("fixed", "learned"))),
        "blocks": draw(per_level),
        "num_classes": draw(st.integers(2, 11)),
        "in_channels": draw(st.sampled_from((1, 3))),
    }
    fitting = []
    for size in _GROUP_SIZES:
        try:
            fitting.append(ArchitectureConfig.from_dict(values | {"group_size": size}))
        except ConfigError as error:
            if error.key != "group_size":
                raise
    return draw(st.sampled_from(fitting))


# From here on, `st.from_type(ArchitectureConfig)` draws random valid architectures of all four families.
st.register_type_strategy(ArchitectureConfig, _architectures())


def _network(config: ArchitectureConfig, seed: int = 0) -> nn.Module:
    net = _BUILDERS[config.family](config).double()
    generator = torch.Generator().manual_seed(seed)

    def normal(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, dtype=torch.float64, generator=generator)

    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data = 1 + 0.3 * normal(module.weight).tanh()
            module.bias.data = 0.3 * normal(module.bias)
            module.running_mean.copy_(0.3 * normal(module.bias))
            module.running_var.copy_(1 + 0.3 * normal(module.bias).tanh())
        elif isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data = module.weight[0].numel() ** -0.5 * normal(module.weight)
            if module.bias is not None:
                module.bias.data = normal(module.bias)
        elif isinstance(module, SmoothingStep) and module.coefficients is not None:
            module.coefficients.data = normal(module.coefficients)
    return net


@pytest.fixture(scope="session")
def network():
    """(config, seed) -> the network of this very config, not of its canonical form, in float64.

    Weights and batch norm statistics are random, so that no term of a formula hides behind a 0 or a 1. They are drawn
    in the modules' order: networks of equal parameter shapes get equal numbers, as if a state dict were copied.
    """
    return _network
