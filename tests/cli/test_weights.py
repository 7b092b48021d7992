"""mgnas weights: exact numbers of presets and files, part by part, and a drawing."""

import re
from xml.etree import ElementTree

import pytest
import yaml

from mgnas.models.config import ArchitectureConfig
from mgnas.models.cost import count_weights
from mgnas.space.published import PRESETS, PUBLISHED


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row.name)
def test_weights_of_a_preset(command, row):
    code, out, _ = command("weights", "--preset", row.name)
    assert code == 0
    total = next(line for line in out.splitlines() if line.startswith("total"))
    assert f"{count_weights(row.config):,}" in total
    assert row.weights in out
    assert row.note in out


def test_weights_of_each_part_add_up(command):
    _, out, _ = command("weights", "--preset", "mgiad-lambda3-cifar10")
    rows = [line.split() for line in out.splitlines()[2:] if re.search(r"\d +$", line)]
    numbers = [int(row[-2].replace(",", "")) for row in rows]
    assert sum(numbers[:-1]) == numbers[-1] == 1_270_474


def test_the_memory_of_an_inference_is_shown(command):
    # The first level's 64 channels of 32 x 32 pixels, four tensors at a time.
    _, out, _ = command("weights", "--preset", "mgnet-cifar10")
    assert "activations of one image, at most: 1,048,576 bytes in float32, 262,144 in int8" in out


def test_weights_of_a_file(command, tmp_path):
    config = ArchitectureConfig(family="mgiad", base_channels=(16, 32), num_classes=7)
    path = tmp_path / "net.yaml"
    for content in (config.to_dict(), {"architecture": config.to_dict(), "data": {"name": "digits"}}):
        path.write_text(yaml.safe_dump(content))
        code, out, _ = command("weights", "--config", path)
        assert code == 0
        assert f"{count_weights(config):,}" in out


def test_images_that_are_too_small_for_the_levels_are_refused(command, refused, tmp_path):
    path = tmp_path / "net.yaml"
    config = ArchitectureConfig(family="mgnet", base_channels=(8, 8, 8), stem_stride=4)
    path.write_text(yaml.safe_dump(config.to_dict()))
    assert command("weights", "--config", path)[0] == 0
    refused(command("weights", "--config", path, "--image-size", 8), "3 levels with stem_stride 4", "9 x 9 pixels")


def test_presets_are_listed(command):
    code, out, _ = command("weights", "--preset", "list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [row.name for row in PRESETS]


def test_a_preset_without_published_figures_shows_none(command):
    code, out, _ = command("weights", "--preset", "poly-mgnet-d1-cifar10")
    assert code == 0
    assert "1,385,554" in out
    assert "Published" not in out


def test_networks_are_drawn_as_svg_alone(command, refused, tmp_path):
    file = tmp_path / "net.svg"
    code, out, _ = command("weights", "--preset", "mgiad-g8-tinyimagenet", "--draw", file)
    assert code == 0
    assert f"Drawn: {file}" in out
    assert ElementTree.parse(file).getroot().tag.endswith("svg")
    code, _, err = command("weights", "--preset", "mgnet-cifar10", "--draw", tmp_path / "net.png")
    assert code == 2
    assert err == f"mgnas: error: --draw {tmp_path / 'net.png'}: expected a file that ends in .svg\n"


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ([], ["one of --preset NAME and --config FILE"]),
        (["--preset", "list", "--config", "net.yaml"], ["one of --preset NAME and --config FILE"]),
        (["--preset", "mgnet"], ["unknown name 'mgnet'", "mgnet-cifar10"]),
        (["--preset", "mgnet-cifar10", "--image-size", "4"], ["--image-size"]),
    ],
)
def test_bad_options(command, options, parts, refused):
    refused(command("weights", *options), *parts)
