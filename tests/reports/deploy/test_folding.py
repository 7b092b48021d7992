import pytest
import torch
from torch import nn

from mgnas.models.build import build_model
from mgnas.models.config import ArchitectureConfig
from mgnas.reports.deploy.folding import fold_batch_norms


def network(**settings):
    """A network whose batch norms do something."""
    torch.manual_seed(0)
    model = build_model(ArchitectureConfig(base_channels=(8, 16), **settings)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_()
    return model


def norms(model):
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize(
    ("settings", "folded"),
    [
        # 1 in the stem, 2 in each of 4 blocks, 1 in the projection.
        ({"family": "resnet"}, 10),
        # 2 stages of 2 blocks; channel levels 8-4 and 16-8-4 have 2 + 2 + 1 and 3 x 2 + 2 norms; 1 transfer, stem.
        ({"family": "mgic"}, 2 * 5 + 2 * 8 + 2),
        # The shared B has another bn2 behind it in each step: only the stem's.
        ({"family": "mgnet"}, 1),
        # Every step has its own B: the stem's and 2 levels x 2 steps.
        ({"family": "mgnet", "sharing": "A"}, 5),
        # And 2 of the dense transfer.
        ({"family": "mgnet", "sharing": "none", "resolution_transfer": "dense"}, 7),
        # One step a level has B to itself; and on the last level bn1 comes right behind R, as A is not needed there.
        ({"family": "mgnet", "smoothing_steps": 1}, 4),
        ({"family": "mgiad", "fully_coupled_channels": 4}, 1),
    ],
)
def test_folds_what_is_exact_and_changes_no_output(settings, folded):
    model = network(**settings)
    before = norms(model)
    copy, count = fold_batch_norms(model)
    assert (count, norms(copy), norms(model)) == (folded, before - folded, before)
    images = torch.randn(3, 3, 12, 12)
    with torch.inference_mode():
        expected, found = model(images), copy(images)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
