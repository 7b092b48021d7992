"""benchmarks/training/stability.py"""

import numpy as np
import pytest
from stability import distinct_candidates, shortened, train

from mgnas.errors import UserError
from mgnas.search.data.dataset import DataSettings, load_dataset
from mgnas.space import TrainingSettings
from mgnas.space.search_space import SearchSpace

PARAMETERS = {"base_channels": [[4, 4, 4], [4] * 5, [4] * 6], "stem_stride": [1, 4]}


@pytest.fixture
def space():
    training = TrainingSettings(epochs=20, warmup_epochs=2, batch_size=64)
    mapping = {"fixed": {"family": "mgnet", "smoothing_steps": 1}, "parameters": PARAMETERS}
    return SearchSpace(mapping, training, num_classes=10, in_channels=1, image_size=96)


def test_networks_with_too_many_levels_for_the_images_are_passed_over(space):
    assert len(distinct_candidates(space, 6, 0, image_size=65)) == 6
    # With stride 4, five levels need images of 33 pixels and six levels ones of 65.
    fitting = distinct_candidates(space, 4, 0, image_size=32)
    assert all(c.architecture.stem_stride * 2 ** (len(c.architecture.channels) - 2) < 32 for c in fitting)
    with pytest.raises(UserError, match="only about 4 of them, not 5"):
        distinct_candidates(space, 5, 0, image_size=32)


def test_the_warmup_keeps_its_share_of_the_epochs(space):
    recipe = shortened(space.training, 5)
    assert (recipe.epochs, recipe.warmup_epochs, recipe.learning_rate) == (5, 0.5, space.training.learning_rate)


def test_a_network_that_learns_does_not_diverge(space):
    data = load_dataset(DataSettings(name="digits", train_images=300))
    (candidate,) = distinct_candidates(space, 1, 0, data.image_size)
    outcome = train(candidate, data, epochs=2, seed=0, device="cpu")
    assert not outcome.diverged
    assert np.isfinite(outcome.loss)
    assert str(outcome).startswith("stable, loss ")
