"""What the tests of data sets share."""

import numpy as np
import pytest

from mgnas.errors import UserError
from mgnas.search.data.dataset import ImageDataset


@pytest.fixture(scope="session")
def numbers():
    """Which of the images of `numbered` these are."""

    def of(part: ImageDataset) -> np.ndarray:
        return part.images[:, 0, 0, :2].astype(int) @ (256, 1)

    return of


@pytest.fixture(scope="session")
def outcome():
    """call -> the message of the UserError, if there is one, else `fine`; nothing else may be raised."""

    def of(call) -> str:
        try:
            call()
        except UserError as error:
            return str(error)
        return "fine"

    return of
