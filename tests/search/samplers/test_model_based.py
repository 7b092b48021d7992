"""What makes a sampler one with a model."""

import optuna
import pytest

from mgnas.search.samplers.factory import SAMPLERS, make_sampler
from mgnas.search.samplers.model_based import ModelBasedSampler


@pytest.mark.parametrize("name", SAMPLERS)
def test_of_the_samplers_by_name_only_ehvi_has_one(small_space, name):
    assert isinstance(make_sampler(name, 0, small_space), ModelBasedSampler) is (name == "ehvi")


@pytest.mark.parametrize("missing", ["set_predictions", "expectation"])
def test_a_sampler_with_a_model_must_take_predictions_and_tell_expectations(missing):
    methods = {name: lambda *_: None for name in ("set_predictions", "expectation") if name != missing}
    incomplete = type("Incomplete", (optuna.samplers.RandomSampler, ModelBasedSampler), methods)
    with pytest.raises(TypeError, match=missing):
        incomplete()
