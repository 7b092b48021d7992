import pytest
import torch

from mgnas.models.config import ArchitectureConfig
from mgnas.search.training.threads import default_threads


@pytest.mark.parametrize(
    ("channels", "stride", "batch", "size", "expected"),
    [
        (32, 1, 64, 8, 4),  # 2^17 values
        (31, 1, 64, 8, 1),
        (128, 2, 64, 8, 4),  # 64 x 128 x 4 x 4 = 2^17
        (64, 2, 64, 8, 1),
        (32, 2, 64, 15, 4),  # an odd size is rounded up, to 8
        (32, 2, 64, 14, 1),
    ],
)
def test_only_large_activations_are_shared_out(monkeypatch, channels, stride, batch, size, expected):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    architecture = ArchitectureConfig(family="mgnet", base_channels=(channels,), stem_stride=stride)
    assert default_threads(architecture, batch, size) == expected
