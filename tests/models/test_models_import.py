"""Configs and costs do without torch, which takes seconds to import."""

import subprocess
import sys

import pytest
import torch

import mgnas.models
from mgnas.models import ArchitectureConfig

SCRIPT = """
import sys
from mgnas.errors import ConfigError
from mgnas.models import ArchitectureConfig, cost_by_part, count_macs, count_weights
config = ArchitectureConfig(family="mgiad", base_channels=(16, 32))
config.id, config.describe(), count_weights(config), count_macs(config, 32), cost_by_part(config, 32)
print("torch" in sys.modules)
"""


def test_configs_and_costs_need_no_torch():
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["False"], run.stderr


def test_the_package_offers_build_model():
    model = mgnas.models.build_model(ArchitectureConfig(family="resnet", base_channels=(4,)))
    assert isinstance(model, torch.nn.Module)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="count_wheights"):
        _ = mgnas.models.count_wheights
