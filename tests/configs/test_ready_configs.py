"""The searches in configs/: they load, their spaces can be looked at whole, and their networks can be built."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mgnas.models import build_model
from mgnas.search.config import SearchConfig
from mgnas.search.data.dataset import load_dataset
from mgnas.search.training.trainer import Trainer

FOLDER = Path(__file__).parents[2] / "configs"
READY = sorted(FOLDER.glob("*.yaml"))
LOOKED_AT_WHOLE = 30_000
"""Effective points of the largest space that the sampler `ehvi` looks at whole."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with two classes of photographs, bright and dark ones, of several sizes; every third one is grey."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for label, level in (("dark", 40), ("bright", 200)):
        (root / label).mkdir()
        for index, (width, height) in enumerate(
            [(97, 151), (224, 96), (128, 128), (301, 199), (64, 40), (131, 97)] * 4
        ):
            pixels = rng.integers(level - 40, level + 40, (height, width, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).convert("L" if index % 3 == 0 else "RGB")
            image.save(root / label / f"{index}.{'png' if index % 2 else 'jpg'}")
    return root


@pytest.fixture
def ready(photos):
    """The name of a ready config -> the config. The folder of photographs is a generated one."""

    def load(name):
        return SearchConfig.load(FOLDER / f"{name}.yaml").override(path=str(photos) if name == "photos" else None)

    return load


def names():
    return [path.stem for path in READY]


def check_extremes(candidates):
    """Build the networks with the fewest and the most weights, and compute one image."""
    for choose in (min, max):
        candidate = choose(candidates, key=lambda candidate: candidate.weights)
        config = candidate.architecture
        model = build_model(config).eval()
        assert sum(parameter.numel() for parameter in model.parameters()) == candidate.weights
        with torch.inference_mode():
            logits = model(torch.zeros(1, config.in_channels, candidate.image_size, candidate.image_size))
        assert logits.shape == (1, config.num_classes)
        assert logits.isfinite().all()


def test_there_is_a_config_for_each_kind_of_images():
    assert {"digits", "cifar10", "cifar10-small", "mlperf-tiny", "photos", "tinyimagenet"} <= set(names())


@pytest.mark.parametrize("name", names())
def test_every_ready_config_has_a_space_that_can_be_searched(name, ready):
    config = ready(name)
    assert config.name == name
    assert config.resources.gpus_per_trial == "auto"
    space, rng = config.search_space(), np.random.default_rng(0)
    assert space.effective_points() <= LOOKED_AT_WHOLE
    candidates = [space.sample(rng) for _ in range(50)]
    assert len({candidate.id for candidate in candidates}) > 40
    check_extremes(candidates)


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_every_ready_config_is_enumerated_and_its_extremes_are_built(name, ready):
    candidates = list(ready(name).search_space().enumerate())
    assert len(candidates) == len({candidate.id for candidate in candidates}) > 200
    check_extremes(candidates)


@pytest.mark.parametrize("name", ["cifar10", "cifar10-small"])
def test_spaces_for_cifar10_have_every_new_setting(name, ready):
    space = ready(name).search_space()
    rng = np.random.default_rng(0)
    networks = [space.sample(rng).architecture.canonical() for _ in range(1000)]
    assert {network.smoother for network in networks} == {"learned", "polynomial"}
    assert {network.kernel_size for network in networks} == {3, 5, 7}
    narrowest = min(network.group_size for network in networks if network.family == "mgiad")
    assert narrowest == (8 if "small" in name else 1)  # narrow groups take long on a CPU
    assert {len(network.channels) for network in networks} == ({2, 3} if "small" in name else {2, 3, 4})


def test_small_networks_for_cifar10_have_10k_to_150k_weights(ready):
    space, rng = ready("cifar10-small").search_space(), np.random.default_rng(0)
    candidates = [space.sample(rng) for _ in range(300)]
    assert all(10_000 <= candidate.weights <= 150_000 for candidate in candidates)
    assert max(candidate.macs for candidate in candidates) <= 40e6
    families = Counter(candidate.architecture.family for candidate in candidates)
    assert min(families[name] for name in ("mgnet", "mgic", "mgiad")) > 30


@pytest.mark.parametrize("size", [96, 101, 224])
def test_networks_for_photographs_fit_every_size_up_to_224_pixels(size, ready):
    config = ready("photos").override(image_size=size)
    space, rng = config.search_space(), np.random.default_rng(0)
    candidates = [space.sample(rng) for _ in range(60)]
    assert {candidate.architecture.stem_stride for candidate in candidates} == {1, 2, 4}
    assert {len(candidate.architecture.channels) for candidate in candidates} >= {3, 4, 5, 6}
    assert max(candidate.macs for candidate in candidates) <= 150e6
    check_extremes(candidates)


def test_a_trial_of_photographs_learns_what_is_bright(ready):
    config = ready("photos").override(image_size=96)
    space, rng = config.search_space(), np.random.default_rng(0)
    candidate = min((space.sample(rng) for _ in range(50)), key=lambda candidate: candidate.macs)
    data = load_dataset(config.data)
    recipe = replace(candidate.training, epochs=5, warmup_epochs=1, batch_size=8)
    trainer = Trainer(candidate.architecture, recipe, data.train, data.validation, seed=0, device="cpu")
    while not trainer.finished:
        trainer.run_epoch()
    assert data.train.shape[1:] == (3, 96, 96)
    assert trainer.history[-1].loss < 0.75 * trainer.history[0].loss
    assert all(result.accuracy is not None for result in trainer.history)
