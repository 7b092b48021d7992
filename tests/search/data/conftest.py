"""What the tests of data sets share."""

import numpy as np
import pytest

from mgnas.search.data.dataset import ImageDataset


@pytest.fixture(scope="session")
def numbers():
    """Which of the images of `numbered` these are."""

    def of(part: ImageDataset) -> np.ndarray:
        return part.images[:, 0, 0, :2].astype(int) @ (256, 1)

    return of
