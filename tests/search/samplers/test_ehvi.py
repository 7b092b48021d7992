"""EHVISampler as a user's sampler, in real Optuna studies."""

import gc
import logging
import math
import pickle
import weakref

import numpy as np
import optuna
import pytest
from grid_problem import ALL, FACTOR, GRID, accuracy, distinct, needed, new_study, run, weights
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import TrialState

from mgnas.search.samplers.candidate_pool import CandidatePool
from mgnas.search.samplers.ehvi import EHVISampler
from mgnas.search.samplers.outcome_transforms import LogErrorTransform
from mgnas.search.trial_record import GaussianPrediction


def test_the_front_of_a_known_problem_is_found_in_far_fewer_trials_than_at_random():
    by_model, at_random = [], []
    for seed in range(2):
        by_model.append(needed(run(new_study(EHVISampler(weights, GRID, seed=seed)), 30), 0.95))
        rng = np.random.default_rng(seed)
        at_random.append(needed([ALL[row] for row in rng.permutation(len(ALL))], 0.95))
    assert sum(by_model) < sum(at_random) / 3


@pytest.mark.parametrize("told", [0, 12])
def test_ten_asks_in_a_row_are_ten_different_configs(told):
    study = new_study(EHVISampler(weights, GRID, seed=0))
    before = run(study, told)
    asked = [study.ask(GRID).params for _ in range(10)]
    assert distinct(before + asked) == told + 10


def test_pending_trials_change_the_next_proposal():
    def second(state) -> tuple[dict, dict]:
        study = new_study(EHVISampler(weights, GRID, seed=0))
        run(study, 12)
        first = study.ask(GRID)
        if state is not None:
            study.tell(first, state=state)
        return first.params, study.ask(GRID).params

    with_pending, with_failed = second(None), second(TrialState.FAIL)
    assert with_pending[0] == with_failed[0]
    assert with_pending[0] not in (with_pending[1], with_failed[1])
    assert with_pending[1] != with_failed[1]


def test_a_seed_fixes_the_proposals():
    def proposals(seed) -> list[dict]:
        return run(new_study(EHVISampler(weights, GRID, seed=seed)), 10)

    assert proposals(3) == proposals(3) != proposals(4)


def test_every_candidate_of_a_space_is_proposed_once(small_space):
    pool = CandidatePool(small_space, seed=0)
    study = new_study(EHVISampler(pool=pool, seed=0))

    def cost(params) -> float:
        return small_space.build(params).weights

    asked = run(study, 17, pool.distributions, truth=lambda params: math.log10(cost(params)) / 5, cost=cost)
    assert {small_space.candidate(params).id for params in asked} == {c.id for c in small_space.enumerate()}
    further = study.ask(pool.distributions)
    assert further.params.keys() == pool.distributions.keys()
    assert further.relative_params == {}


def test_failed_trials_are_no_evidence_and_not_tried_again():
    small = {"width": IntDistribution(1, 4), "kind": GRID["kind"]}
    study = new_study(EHVISampler(lambda params: weights({**params, "depth": 1}), small, seed=0))
    asked = []
    for _ in range(12):
        trial = study.ask(small)
        study.tell(trial, state=TrialState.FAIL)
        asked.append(trial.params)
    assert distinct(asked) == 12


# -------------------------------------------------------------------------------- predictions and expectations


@pytest.mark.parametrize("with_prediction", [False, True])
def test_a_filled_study_is_continued(with_prediction):
    study = new_study(EHVISampler(weights, GRID, seed=0))
    before = run(study, 9)
    running = study.ask(GRID)
    sampler = EHVISampler(weights, GRID, seed=9)
    study.sampler = sampler
    if with_prediction:
        sampler.set_predictions(study, {running.number: GaussianPrediction(0.5, 0.05)})
    after = run(study, 3)
    assert distinct([*before, running.params, *after]) == 13


def test_a_sure_prediction_counts_like_a_result():
    def proposal(mean, std) -> dict:
        sampler = EHVISampler(weights, GRID, seed=0)
        study = new_study(sampler)
        run(study, 11)
        running = study.ask(GRID)
        sampler.set_predictions(study, {running.number: GaussianPrediction(mean, std)})
        return study.ask(GRID).params

    study = new_study(EHVISampler(weights, GRID, seed=0))
    run(study, 11)
    told = study.ask(GRID)
    study.tell(told, (0.9, weights(told.params)))
    predicted = proposal(0.9, 0.0)
    assert predicted == study.ask(GRID).params
    assert predicted != proposal(0.1, 0.0)


def test_predictions_set_later_take_the_place_of_the_earlier_ones():
    def proposal(*given) -> dict:
        sampler = EHVISampler(weights, GRID, seed=0)
        study = new_study(sampler)
        run(study, 11)
        running = study.ask(GRID)
        for mean in given:
            sampler.set_predictions(study, {} if mean is None else {running.number: GaussianPrediction(mean, 0.0)})
        return study.ask(GRID).params

    assert proposal(0.1, 0.9) == proposal(0.9)
    assert proposal(0.9, None) == proposal()


def test_what_was_expected_of_a_proposal_is_near_the_truth_once_enough_is_known():
    transform = LogErrorTransform()
    sampler = EHVISampler(weights, GRID, seed=0, outcome_transform=transform)
    study = new_study(sampler)
    run(study, 30)
    first, *_, last = study.trials
    assert sampler.expectation(study, first.number) is None, "the initial design needs no model"
    expected = sampler.expectation(study, last.number)
    assert abs(expected.mean - transform.transform(accuracy(last.params))) < 3 * expected.std < 1


def test_expectations_on_another_scale_are_kept_back():
    sampler = EHVISampler(weights, GRID, seed=0)
    study = new_study(sampler)
    run(study, 10)
    assert sampler.expectation(study, 9) is None


# -------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("directions", [("minimize", "maximize"), ("maximize",), ("maximize", "maximize")])
def test_other_directions_are_refused(directions):
    with pytest.raises(ValueError, match=r"\['maximize', 'minimize'\]"):
        new_study(EHVISampler(weights, GRID), directions).ask(GRID)


def test_costs_must_come_from_somewhere():
    with pytest.raises(ValueError, match="cost"):
        EHVISampler()


def test_a_cost_must_be_greater_than_0():
    with pytest.raises(ValueError, match="the cost must be greater than 0 and finite, got 0"):
        new_study(EHVISampler(lambda params: 0, GRID)).ask(GRID)


def test_other_kinds_of_distributions_are_refused():
    class Other(BaseDistribution):
        def to_internal_repr(self, param_value_in_external_repr):
            return 0.0

        def single(self):
            return False

        def _contains(self, param_value_in_internal_repr):
            return True

    with pytest.raises(ValueError, match=r"width: EHVISampler needs an Int-, .* got Other"):
        new_study(EHVISampler(weights, {"width": Other()})).ask({"width": Other()})


def test_a_prior_needs_architectures(make_prior):
    with pytest.raises(ValueError, match="CandidatePool"):
        EHVISampler(weights, GRID, prior=make_prior())


def test_a_prior_that_cannot_predict_its_own_trainings_is_left_out(wide_space, make_prior, caplog):
    """Then the search starts like one without a prior."""
    wrong = min((make_prior().shuffled(seed) for seed in range(6)), key=lambda prior: prior.trust)
    assert wrong.trust < 0.3

    def first_proposals(prior) -> list[dict]:
        pool = CandidatePool(wide_space, seed=0)
        study = new_study(EHVISampler(pool=pool, prior=prior, seed=0))
        return [study.ask(pool.distributions).params for _ in range(4)]

    assert first_proposals(wrong) == first_proposals(None)
    assert "the prior cannot predict its own trainings" in caplog.text
    assert first_proposals(make_prior()) != first_proposals(None)


# -------------------------------------------------------------------------------------------- uses of Optuna


def test_one_sampler_may_serve_two_studies():
    sampler = EHVISampler(weights, GRID, seed=0)
    first, second = new_study(sampler), new_study(sampler)
    run(first, 10)
    run(second, 3)
    run(first, 2)
    assert distinct(trial.params for trial in first.trials) == 12


def test_a_study_of_anybody_with_all_kinds_of_parameters():
    """Defined by run: the search space is what the complete trials have in common."""

    def objective(trial) -> tuple[float, float]:
        rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
        steps = trial.suggest_int("steps", 1, 40)
        family = trial.suggest_categorical("family", ["a", "b", None])
        quality = 1 - (math.log10(rate) + 2.5) ** 2 / 3 + 0.02 * steps - (family is None) * 0.5
        return quality, steps

    study = new_study(EHVISampler(lambda params: params["steps"], startup=6, seed=0))
    study.optimize(objective, n_trials=20)
    late = [trial.params for trial in study.trials[10:]]
    assert len(study.trials) == 20
    assert distinct(trial.params for trial in study.trials) == 20
    assert np.median([abs(math.log10(params["rate"]) + 2.5) for params in late]) < 0.4
    assert sum(params["family"] is None for params in late) <= 3


def test_enqueued_parameters_stand():
    study = new_study(EHVISampler(weights, GRID, seed=0))
    wanted = {"width": 7, "depth": 3, "kind": "shared"}
    study.enqueue_trial(wanted)
    assert study.ask(GRID).params == wanted
    assert study.ask(GRID).params != wanted


def test_several_threads_and_pickling():
    study = new_study(EHVISampler(weights, GRID, seed=0))
    study.sampler = pickle.loads(pickle.dumps(study.sampler))

    def objective(trial) -> tuple[float, float]:
        params = {"width": trial.suggest_int("width", 1, 30), "depth": trial.suggest_int("depth", 1, 8)}
        params["kind"] = trial.suggest_categorical("kind", tuple(FACTOR))
        return accuracy(params), weights(params)

    study.optimize(objective, n_trials=14, n_jobs=2)
    pickle.loads(pickle.dumps(study.sampler))
    assert all(trial.state is TrialState.COMPLETE for trial in study.trials)
    assert distinct(trial.params for trial in study.trials) == 14


def test_the_study_is_not_kept_alive():
    sampler = EHVISampler(weights, GRID, seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.ask(GRID)
    remembered = weakref.ref(study)
    del study
    gc.collect()
    assert remembered() is None


def test_a_model_that_cannot_be_fitted_is_done_without(caplog):
    """Optuna lets an infinite value pass."""
    study = new_study(EHVISampler(weights, GRID, startup=4, seed=0))
    with caplog.at_level(logging.WARNING, logger="mgnas.search.samplers.proposer"):
        asked = run(study, 10, truth=lambda params: math.inf if params["width"] > 3 else 0.5)
    assert distinct(asked) == 10
    assert len(caplog.records) == 1
    assert "finite" in caplog.text
