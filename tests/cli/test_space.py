"""mgnas space: what a search space holds."""

import re

import numpy as np
import yaml
from PIL import Image

from .conftest import CONFIGS


def test_space_counts_points_and_networks(command, edited):
    fixed = {"family": "mgnet", "sharing": "AB"}
    parameters = {"base_channels": [[4], [8]], "channel_scaling": [1, 2], "smoothing_steps": [1, 2]}
    path = edited(space={"fixed": fixed, "parameters": parameters})
    code, out, _ = command("space", path)
    assert code == 0
    assert re.search(r"points +8\b", out)
    # 4 x 2 and 8 x 1 channels are the same network, for each number of steps.
    assert re.search(r"distinct and valid 6\b", out)


def test_continuous_space_is_described_from_a_sample(command, edited):
    parameters = {"base_channels": [[4], [8]], "learning_rate": {"low": 0.01, "high": 0.1}}
    code, out, _ = command("space", edited(space={"fixed": {"family": "mgnet"}, "parameters": parameters}))
    assert code == 0
    assert "found in a sample of 20,000 points" in out


def test_the_images_of_a_config_can_be_named(command, tmp_path):
    rng = np.random.default_rng(0)
    for name, mode in (("cat", "RGB"), ("dog", "L")):
        (tmp_path / name).mkdir()
        for index in range(4):
            image = Image.fromarray(rng.integers(0, 256, (97 + index, 130, 3), dtype=np.uint8))
            image.convert(mode).save(tmp_path / name / f"{index}.png")
    photos = yaml.safe_load((CONFIGS / "photos.yaml").read_text())
    fixed = {"family": "mgnet", "base_channels": [16, 32, 64, 128]}
    photos["space"] = {"fixed": fixed, "parameters": {"stem_stride": [2, 4], "smoothing_steps": [1, 2]}}
    (tmp_path / "few.yaml").write_text(yaml.safe_dump(photos))
    code, out, _ = command("space", tmp_path / "few.yaml", "--data", tmp_path)
    assert code == 0
    assert re.search(r"distinct and valid 4\n", out)


def test_missing_images_are_named_in_one_line(command, refused):
    refused(command("space", CONFIGS / "photos.yaml", "--data", "none"), "none: no such file or folder (data.path)")
