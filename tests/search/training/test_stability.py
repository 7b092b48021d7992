"""Training is stable all over the ready search space, at its own learning rate."""

import math
from pathlib import Path

import numpy as np
import pytest

from mgnas.search.data.dataset import load_dataset
from mgnas.search.training.trainer import Trainer, TrainingDivergedError


@pytest.mark.slow
def test_no_random_candidate_of_the_digits_search_diverges():
    """Deep settings used to: the increments of smoothing steps add up (see INCREMENT_SCALE in models/layers.py).

    Guessing costs a loss of log(10). Two epochs cover the warm-up and the first one at the full learning rate.
    """
    from mgnas.search.config import SearchConfig  # which needs Optuna; the rest of this folder does not

    config = SearchConfig.load(Path(__file__).parents[3] / "configs" / "digits.yaml")
    space, data, rng = config.search_space(), load_dataset(config.data), np.random.default_rng(0)
    candidates = {}
    while len(candidates) < 100:
        candidate = space.sample(rng)
        candidates[candidate.id] = candidate
    unstable = []
    for seed, candidate in enumerate(candidates.values()):
        trainer = Trainer(candidate.architecture, candidate.training, data.train, data.validation, seed)
        try:
            losses = [trainer.run_epoch().loss for _ in range(2)]
        except TrainingDivergedError as error:
            unstable.append((candidate.architecture.describe(), str(error)))
            continue
        if not all(loss < math.log(10) + 0.5 for loss in losses):
            unstable.append((candidate.architecture.describe(), losses))
    assert unstable == []
