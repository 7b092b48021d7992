"""Small data, networks, spaces and searches, made on the spot."""

import itertools

import numpy as np
import optuna
import pytest
import yaml

from mgnas.models import ArchitectureConfig, UserError
from mgnas.search.data import Images
from mgnas.search.search_config import SearchConfig
from mgnas.space import SearchSpace, TrainingSettings


@pytest.fixture(autouse=True)
def _quiet_optuna():
    """Of all the studies made here, none needs to say so."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


@pytest.fixture(scope="session")
def refusal():
    """call -> the message of the UserError that it must raise, which must be one line."""

    def message_of(call) -> str:
        with pytest.raises(UserError) as caught:
            call()
        message = str(caught.value)
        assert len(message.splitlines()) == 1, message
        return message

    return message_of


@pytest.fixture(scope="session")
def new_path(tmp_path_factory):
    """name -> a path that no test, and no example of a property test, has used before."""
    numbers = itertools.count()

    def make(name: str):
        folder = tmp_path_factory.getbasetemp() / f"unused-{next(numbers)}"
        folder.mkdir()
        return folder / name

    return make


@pytest.fixture(scope="session")
def write_npz(new_path):
    """arrays -> a new npz file with them."""

    def write(**arrays) -> str:
        path = str(new_path("images.npz"))
        np.savez(path, **arrays)
        return path

    return write


@pytest.fixture(scope="session")
def numbered():
    """Images per class -> uint8 images n x channels x size x size with mixed labels, image i showing its number i.

    The first pixel is i // 256 and the second i % 256; all others are noise.
    """

    def make(counts, size: int = 8, channels: int = 1) -> Images:
        rng = np.random.default_rng(0)
        labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
        images = rng.integers(0, 256, (len(labels), channels, size, size), dtype=np.uint8)
        images[:, 0, 0, 0], images[:, 0, 0, 1] = np.divmod(np.arange(len(labels)), 256)
        return Images(images, labels)

    return make


@pytest.fixture(scope="session")
def tiny():
    """The smallest useful network, for 8 x 8 images of one channel; keywords change it."""

    def make(**changes) -> ArchitectureConfig:
        base = {"family": "mgnet", "base_channels": (4,), "smoothing_steps": 1, "in_channels": 1}
        return ArchitectureConfig(**base | changes)

    return make


@pytest.fixture(scope="session")
def make_space():
    """parameters, limits -> a space over images of 8 x 8 pixels and 10 classes, trained for 2 epochs."""

    def make(parameters, limits=None, fixed=None, epochs: int = 2) -> SearchSpace:
        mapping = {"parameters": parameters, "limits": limits or {}, "fixed": fixed or {}}
        return SearchSpace(mapping, TrainingSettings(epochs=epochs), num_classes=10, in_channels=1, image_size=8)

    return make


@pytest.fixture(scope="session")
def small_space(make_space):
    """72 points, of which many are invalid (4 of 6 channels a group), the same or too heavy: 17 candidates are left."""
    parameters = {
        "family": ["mgnet", "mgiad"],
        "base_channels": [[4], [6], [4, 8]],
        "smoothing_steps": {"low": 1, "high": 2},
        "sharing": ["A", "AB"],
        "group_size": [2, 3, 4],
    }
    return make_space(parameters, {"max_weights": 1500}, {"fully_coupled_channels": 2})


@pytest.fixture(scope="session")
def wide_space(make_space):
    """960 points, nearly all of them different networks."""
    parameters = {
        "base_channels": [[4, 8], [4, 16], [8, 8], [8, 16], [8, 32]],
        "channel_scaling": [1, 2, 3, 4, 5, 6, 7, 8],
        "smoothing_steps": {"low": 1, "high": 8},
        "sharing": ["A", "AB", "none"],
    }
    return make_space(parameters, fixed={"family": "mgnet"})


@pytest.fixture
def search_file(tmp_path):
    """Sections in place of the default ones (None: left out) -> a new YAML file with a small search on digits."""

    def write(file: str = "small.yaml", **sections):
        content = {
            "name": "small",
            "data": {"name": "digits"},
            "space": {
                "fixed": {"family": "mgnet", "base_channels": [4]},
                "parameters": {"smoothing_steps": [1, 2], "sharing": ["A", "AB"]},
            },
            "training": {"epochs": 2, "batch_size": 256},
            "search": {"sampler": "random", "trials": 3},
        }
        content = {key: value for key, value in (content | sections).items() if value is not None}
        path = tmp_path / file
        path.write_text(yaml.safe_dump(content))
        return path

    return write


@pytest.fixture
def small_search(search_file):
    """Sections in place of the default ones -> the search that they describe."""
    return lambda **sections: SearchConfig.load(search_file(**sections))
