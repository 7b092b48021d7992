"""Builds the module that a config describes."""

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

    The network maps N x in_channels x h x w float images, of 8 x 8 pixels or more, to N x num_classes logits. Configs
    with equal canonical forms give networks with the same parameter shapes in the same order.
    """
    canonical = config.canonical()
    return _FAMILIES[canonical.family](canonical)
