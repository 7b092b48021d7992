"""What the tests of several samplers share: made-up accuracies of real networks, and a prior that knows them."""

import math

import numpy as np
import pytest

from mgnas.search.samplers.transfer_prior import TransferPrior


@pytest.fixture(scope="session")
def truth_of(wide_space):
    """params -> a made-up accuracy of the network, and its weights."""

    def of(params) -> tuple[float, int]:
        candidate = wide_space.candidate(params)
        config = candidate.architecture
        depth = np.mean(config.steps)
        gain = 0.1 * math.log2(config.channels[-1]) + 0.1 * math.log2(depth) - 0.02 * depth
        return 0.9 - 0.5 * math.exp(-gain) - 0.03 * (config.sharing == "none"), candidate.weights

    return of


@pytest.fixture(scope="session")
def make_prior(wide_space, truth_of):
    """A prior that knows 100 networks of the space, on a data set on which all accuracies are half as high."""

    def make() -> TransferPrior:
        rng = np.random.default_rng(0)
        known = [wide_space.sample(rng) for _ in range(100)]
        return TransferPrior.from_accuracies(
            [c.architecture for c in known], [truth_of(c.params)[0] / 2 for c in known]
        )

    return make
