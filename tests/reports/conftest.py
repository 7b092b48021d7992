"""A really trained network, once for all tests of exports."""

import pytest

from mgnas.models.config import ArchitectureConfig
from mgnas.reports.deploy.final_training import FinalTraining, train_fully
from mgnas.search.data.dataset import DataSettings
from mgnas.space.candidate import TrainingSettings

SMALL = FinalTraining(
    ArchitectureConfig(family="mgnet", base_channels=(8, 16), in_channels=1),
    TrainingSettings(epochs=2, batch_size=32),
    DataSettings(name="digits"),
)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory):
    """A folder that `mgnas train` wrote: a small MgNet on digits."""
    folder = tmp_path_factory.mktemp("small") / "model"
    train_fully(SMALL, folder, "cpu")
    return folder
