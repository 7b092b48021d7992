"""From a config to a module."""

from __future__ import annotations

from torch import nn

from .config import ArchitectureConfig
from .mgiad import build_mgiad
from .mgic import build_mgic
from .mgnet import build_mgnet
from .resnet import build_resnet

_FAMILIES = {"resnet": build_resnet, "mgnet": build_mgnet, "mgic": build_mgic, "mgiad": build_mgiad}


def build_model(config: ArchitectureConfig) -> nn.Module:
    """The network that `config` describes, freshly initialised from torch's global generator.

    It maps N x in_channels x h x w float images of any size from 8 x 8 up to N x num_classes logits. Equal canonical
    forms give equal parameter shapes in equal order.
    """
    canonical = config.canonical()
    return _FAMILIES[canonical.family](canonical)
