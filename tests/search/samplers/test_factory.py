"""The samplers by name."""

import typing
import warnings

import optuna
import pytest

from mgnas.search.config import SearchSettings
from mgnas.search.samplers.factory import SAMPLERS, make_sampler

samplers = pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "ehvi"])  # that one needs a space
DISTRIBUTIONS = {
    "steps": optuna.distributions.IntDistribution(1, 50),
    "rate": optuna.distributions.FloatDistribution(0.001, 1, log=True),
    "family": optuna.distributions.CategoricalDistribution(("mgnet", "mgiad")),
}


def proposals(name: str, seed: int, n_trials: int = 12) -> list[dict]:
    """Of a search for few steps and a large rate."""
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=make_sampler(name, seed))
    found = []
    for _ in range(n_trials):
        trial = study.ask(DISTRIBUTIONS)
        study.tell(trial, (trial.params["rate"], trial.params["steps"]))
        found.append(trial.params)
    return found


def test_a_search_can_name_every_sampler_and_no_other():
    assert set(typing.get_type_hints(SearchSettings)["sampler"].__args__) == set(SAMPLERS)


@samplers
def test_a_seed_fixes_the_proposals(name):
    assert proposals(name, 3) == proposals(name, 3)
    assert proposals(name, 3) != proposals(name, 4)


@samplers
def test_a_sampler_is_made_without_warnings(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(make_sampler(name, 0), optuna.samplers.BaseSampler)


def test_tpe_heeds_the_trials_that_are_running():
    """Else workers that ask at the same time would all look in the same corner."""

    def asked(forget) -> list[dict]:
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=make_sampler("tpe", 0))
        for _ in range(15):
            trial = study.ask(DISTRIBUTIONS)
            study.tell(trial, (trial.params["rate"], trial.params["steps"]))
        found = []
        for _ in range(6):
            trial = study.ask(DISTRIBUTIONS)
            found.append(trial.params)
            if forget:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return found

    running, forgotten = asked(forget=False), asked(forget=True)
    assert running[0] == forgotten[0]
    assert running[1:] != forgotten[1:]


def test_ehvi_needs_a_space():
    with pytest.raises(ValueError, match="needs the search space"):
        make_sampler("ehvi", 0)


def test_an_unknown_name_is_a_mistake_of_the_caller():
    with pytest.raises(KeyError):
        make_sampler("grid", 0)
