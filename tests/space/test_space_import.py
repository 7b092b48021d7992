"""The space is pure logic: it needs neither torch nor Ray, which take seconds to import."""

import subprocess
import sys

SCRIPT = """
import sys
import numpy as np
from mgnas.space import PUBLISHED, SearchSpace, TrainingSettings
mapping = {
    "fixed": {"family": "mgiad", "base_channels": [16, 32]},
    "parameters": {"smoothing_steps": [1, 2], "learning_rate": {"low": 0.01, "high": 0.1, "log": True}},
    "limits": {"max_weights": "1M", "max_macs": "1G"},
}
space = SearchSpace(mapping, TrainingSettings(), num_classes=10, in_channels=3, image_size=32)
space.sample(np.random.default_rng(0)).id, space.summary(samples=10)
print("torch" in sys.modules, "ray" in sys.modules, "torchvision" in sys.modules)
"""


def test_the_space_is_used_without_torch_and_ray():
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["False", "False", "False"], run.stderr
