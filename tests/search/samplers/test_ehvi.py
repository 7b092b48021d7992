"""The sampler that knows the cost, in real Optuna studies."""

import itertools
import logging
import math
import pickle

import moocore
import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from mgnas.search.optuna_schema import EXPECTED, PREDICTION, REPEAT
from mgnas.search.samplers import ehvi as ehvi_sampler
from mgnas.search.samplers.acquisition import expected_hypervolume_improvement
from mgnas.search.samplers.candidate_pool import CandidatePool, scaled
from mgnas.search.samplers.ehvi import EHVISampler
from mgnas.search.samplers.outcome_transforms import LogErrorTransform
from mgnas.search.samplers.transfer_prior import TransferPrior

GRID = {
    "width": IntDistribution(1, 30),
    "depth": IntDistribution(1, 8),
    "kind": CategoricalDistribution(("plain", "shared", "grouped")),
}
FACTOR = {"plain": 9.0, "shared": 4.0, "grouped": 2.0}
QUALITY = {"plain": 1.0, "shared": 0.9, "grouped": 0.6}


def weights(values) -> float:
    return FACTOR[values["kind"]] * values["width"] ** 2 * values["depth"]


def accuracy(values) -> float:
    """Saturates in the width and has its best depth at 5."""
    strength = QUALITY[values["kind"]] * math.log(values["width"] + 1) * (1 - ((values["depth"] - 5) / 8) ** 2)
    return 0.9 - 0.6 * math.exp(-strength)


LARGEST = 9 * 30**2 * 8
ALL = [dict(zip(GRID, values, strict=True)) for values in itertools.product(range(1, 31), range(1, 9), FACTOR)]


def hypervolume(configs) -> float:
    points = np.array([(math.log10(weights(values)), 1 - accuracy(values)) for values in configs])
    return float(moocore.hypervolume(points, ref=(math.log10(LARGEST), 0.7)))


def new_study(sampler, directions=("maximize", "minimize")) -> optuna.Study:
    return optuna.create_study(directions=list(directions), sampler=sampler)


def run(study, trials: int, distributions=GRID, truth=accuracy, cost=weights) -> list[dict]:
    """Ask and tell in turns."""
    found = []
    for _ in range(trials):
        trial = study.ask(distributions)
        study.tell(trial, (truth(trial.params), cost(trial.params)))
        found.append(trial.params)
    return found


def distinct(configs) -> int:
    return len({tuple(sorted(values.items(), key=str)) for values in configs})


def needed(configs, share: float) -> int:
    """Trials until that share of the whole grid's hypervolume is reached."""
    goal = share * hypervolume(ALL)
    return next(n for n in range(1, len(configs) + 1) if hypervolume(configs[:n]) >= goal)


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


def test_the_proposal_promises_most_of_what_will_be_observed():
    """By the formula: observations stand in the front at their posterior means, running trials a deviation lower."""
    sampler = EHVISampler(weights, GRID, seed=0)
    study = new_study(sampler)
    told = run(study, 12)
    running = [study.ask(GRID).params for _ in range(2)]
    chosen = study.ask(GRID).params
    model, noise = sampler._model, sampler._model.noise
    mean, std = model.predict(np.array([scaled(values, GRID) for values in ALL]))
    cost = np.log10([weights(values) for values in ALL])
    old, new = ([ALL.index(values) for values in some] for some in (told, running))
    front = np.concatenate([mean[old], mean[new] - np.hypot(std[new], noise)])
    gains = expected_hypervolume_improvement(
        mean, np.hypot(std, noise), cost, cost[old + new], front, cost.max(), front.min()
    )
    gains[old + new] = 0
    assert ALL[int(np.argmax(gains))] == chosen


def test_where_others_run_the_model_is_used_from_the_second_result_on(wide_space, truth_of, make_prior):
    def first_by_model(workers: int) -> int:
        """Results at the first proposal that the model made."""
        pool = CandidatePool(wide_space, seed=0)
        study = new_study(EHVISampler(None, pool=pool, prior=make_prior(), seed=0, scale=LogErrorTransform()))
        running = [study.ask(pool.distributions) for _ in range(workers)]
        for told in range(9):
            if EXPECTED in study.trials[-1].system_attrs:
                return told
            trial = running.pop(0)
            study.tell(trial, truth_of(trial.params))
            running.append(study.ask(pool.distributions))
        return 9

    assert first_by_model(1) == 4
    assert first_by_model(8) == 2


def test_the_start_is_spread_over_the_costs():
    study = new_study(EHVISampler(weights, GRID, seed=1))
    costs = np.log10([weights(study.ask(GRID).params) for _ in range(8)])
    lowest, highest = np.log10([2, LARGEST])
    eighths = np.floor((costs - lowest) / (highest - lowest) * 7.999)
    assert len(set(eighths)) >= 6


def test_a_seed_fixes_the_proposals():
    def proposals(seed) -> list[dict]:
        return run(new_study(EHVISampler(weights, GRID, seed=seed)), 10)

    assert proposals(3) == proposals(3) != proposals(4)


def test_every_candidate_of_a_space_is_proposed_once(small_space):
    pool = CandidatePool(small_space, seed=0)
    study = new_study(EHVISampler(None, pool=pool, seed=0))
    distributions = pool.distributions

    def cost(values) -> float:
        return small_space.build(values).weights

    found = run(study, 17, distributions, truth=lambda values: math.log10(cost(values)) / 5, cost=cost)
    assert {small_space.candidate(values).id for values in found} == {c.id for c in small_space.enumerate()}
    left = study.ask(distributions)
    assert left.params.keys() == distributions.keys()
    assert left.relative_params == {}


def test_failed_trials_are_no_evidence_and_not_tried_again():
    small = {"width": IntDistribution(1, 4), "kind": GRID["kind"]}
    study = new_study(EHVISampler(lambda values: weights({**values, "depth": 1}), small, seed=0))
    asked = []
    for _ in range(12):
        trial = study.ask(small)
        study.tell(trial, state=TrialState.FAIL)
        asked.append(trial.params)
    assert distinct(asked) == 12


@pytest.mark.parametrize("with_attributes", [False, True])
def test_a_filled_study_is_taken_up(with_attributes):
    study = new_study(EHVISampler(weights, GRID, seed=0))
    before = run(study, 9)
    running = study.ask(GRID)
    if with_attributes:
        study._storage.set_trial_system_attr(running._trial_id, PREDICTION, [0.5, 0.05])
    resumed = optuna.load_study(
        study_name=study.study_name, storage=study._storage, sampler=EHVISampler(weights, GRID, seed=9)
    )
    after = run(resumed, 3)
    assert distinct([*before, running.params, *after]) == 13


def test_one_sampler_may_serve_two_studies():
    sampler = EHVISampler(weights, GRID, seed=0)
    first, second = new_study(sampler), new_study(sampler)
    run(first, 10)
    run(second, 3)
    run(first, 2)
    assert distinct(trial.params for trial in first.trials) == 12


def test_a_sure_prediction_counts_like_a_result():
    def proposal(mean, std) -> dict:
        study = new_study(EHVISampler(weights, GRID, seed=0))
        run(study, 11)
        running = study.ask(GRID)
        study._storage.set_trial_system_attr(running._trial_id, PREDICTION, [mean, std])
        return study.ask(GRID).params

    study = new_study(EHVISampler(weights, GRID, seed=0))
    run(study, 11)
    told = study.ask(GRID)
    study.tell(told, (0.9, weights(told.params)))
    believed = proposal(0.9, 0.0)
    assert believed == study.ask(GRID).params
    assert believed != proposal(0.1, 0.0)


@pytest.mark.parametrize("directions", [("minimize", "maximize"), ("maximize",), ("maximize", "maximize")])
def test_other_directions_are_refused(directions):
    with pytest.raises(ValueError, match=r"\['maximize', 'minimize'\]"):
        new_study(EHVISampler(weights, GRID), directions).ask(GRID)


def test_costs_must_come_from_somewhere():
    with pytest.raises(ValueError, match="cost"):
        EHVISampler(None)


def test_a_prior_needs_architectures(make_prior):
    with pytest.raises(ValueError, match="CandidatePool"):
        EHVISampler(weights, GRID, prior=make_prior())


def test_a_model_that_cannot_be_fitted_is_done_without(caplog):
    """Optuna lets an infinite value pass."""
    study = new_study(EHVISampler(weights, GRID, startup=4, seed=0))
    with caplog.at_level(logging.WARNING, logger="mgnas.search.samplers.factory.ehvi"):
        found = run(study, 10, truth=lambda values: math.inf if values["width"] > 3 else 0.5)
    assert distinct(found) == 10
    assert len(caplog.records) == 1
    assert "finite" in caplog.text


def test_a_study_of_anybody_with_all_kinds_of_parameters():
    """Defined by run: the search space is what the complete trials have in common."""

    def objective(trial) -> tuple[float, float]:
        rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
        steps = trial.suggest_int("steps", 1, 40)
        family = trial.suggest_categorical("family", ["a", "b", None])
        quality = 1 - (math.log10(rate) + 2.5) ** 2 / 3 + 0.02 * steps - (family is None) * 0.5
        return quality, steps

    study = new_study(EHVISampler(lambda values: values["steps"], startup=6, seed=0))
    study.optimize(objective, n_trials=20)
    late = [trial.params for trial in study.trials[10:]]
    assert len(study.trials) == 20
    assert distinct(trial.params for trial in study.trials) == 20
    assert np.median([abs(math.log10(values["rate"]) + 2.5) for values in late]) < 0.4
    assert sum(values["family"] is None for values in late) <= 3


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
        values = {"width": trial.suggest_int("width", 1, 30), "depth": trial.suggest_int("depth", 1, 8)}
        values["kind"] = trial.suggest_categorical("kind", tuple(FACTOR))
        return accuracy(values), weights(values)

    study.optimize(objective, n_trials=14, n_jobs=2)
    pickle.loads(pickle.dumps(study.sampler))
    assert all(trial.state is TrialState.COMPLETE for trial in study.trials)
    assert distinct(trial.params for trial in study.trials) == 14


NOISY = {"width": IntDistribution(1, 5)}


def noisy_run(repeats: int) -> tuple[optuna.Study, list[dict]]:
    rng = np.random.default_rng(0)
    study = new_study(EHVISampler(lambda values: values["width"], NOISY, startup=4, seed=0, repeats=repeats))
    truth = {1: 0.3, 2: 0.5, 3: 0.5, 4: 0.6, 5: 0.6}
    asked = []
    for _ in range(12 if repeats > 1 else 5):
        trial = study.ask(NOISY)
        asked.append(trial.params)
        value = truth[trial.params["width"]] + rng.normal(0, 0.1)
        study.tell(trial, (value, trial.params["width"]))
    return study, asked


def test_repeats_are_chosen_and_marked_and_limited():
    study, asked = noisy_run(repeats=3)
    seen, repeated = [], 0
    for trial, values in zip(study.trials, asked, strict=True):
        marked = bool(trial.system_attrs.get(REPEAT))
        assert marked == (values in seen)
        seen.append(values)
        repeated += marked
    assert repeated >= 5
    assert max(asked.count(values) for values in asked) <= 3


def test_without_leave_nothing_is_repeated():
    study, asked = noisy_run(repeats=1)
    assert distinct(asked) == 5
    assert not any(REPEAT in trial.system_attrs for trial in study.trials)


@pytest.fixture(scope="module")
def truth_of(wide_space):
    """values -> a made-up accuracy of the network, and its weights."""

    def of(values) -> tuple[float, int]:
        candidate = wide_space.candidate(values)
        config = candidate.architecture
        depth = np.mean(config.steps)
        gain = 0.1 * math.log2(config.channels[-1]) + 0.1 * math.log2(depth) - 0.02 * depth
        return 0.9 - 0.5 * math.exp(-gain) - 0.03 * (config.sharing == "none"), candidate.weights

    return of


@pytest.fixture(scope="module")
def make_prior(wide_space, truth_of):
    """A prior that knows 100 networks of the space, on a data set where all are worse."""

    def make() -> TransferPrior:
        rng = np.random.default_rng(0)
        known = [wide_space.sample(rng) for _ in range(100)]
        return TransferPrior.from_accuracies(
            [c.architecture for c in known], [truth_of(c.params)[0] / 2 for c in known]
        )

    return make


def test_a_prior_that_cannot_predict_its_own_trainings_is_left_out(wide_space, make_prior, caplog):
    """Then the search starts as one without it does."""
    wrong = min((make_prior().shuffled(seed) for seed in range(6)), key=lambda prior: prior.trust)
    assert wrong.trust < 0.3

    def first_proposals(prior) -> list[dict]:
        pool = CandidatePool(wide_space, seed=0)
        study = new_study(EHVISampler(None, pool=pool, prior=prior, seed=0))
        return [study.ask(pool.distributions).params for _ in range(4)]

    assert first_proposals(wrong) == first_proposals(None)
    assert "the prior cannot predict its own trainings" in caplog.text
    assert first_proposals(make_prior()) != first_proposals(None)


def test_a_prior_proposes_its_front_from_the_first_ask(wide_space, truth_of, make_prior):
    prior = make_prior()
    pool = CandidatePool(wide_space, seed=0)
    study = new_study(EHVISampler(None, pool=pool, prior=prior, seed=0))
    asked = [study.ask(pool.distributions).params for _ in range(10)]
    assert distinct(asked) == 10

    points = [(math.log10(weights), accuracy) for accuracy, weights in (truth_of(p.values) for p in pool.points)]
    largest, lowest = max(cost for cost, _ in points), min(accuracy for _, accuracy in points)

    def share(chosen) -> float:
        minimised = np.array([(cost, 1 - accuracy) for cost, accuracy in chosen])
        whole = np.array([(cost, 1 - accuracy) for cost, accuracy in points])
        reference = (largest, 1 - lowest)
        return moocore.hypervolume(minimised, ref=reference) / moocore.hypervolume(whole, ref=reference)

    assert share([(math.log10(w), a) for a, w in map(truth_of, asked)]) > 0.9


def test_with_results_the_prior_becomes_part_of_the_model(wide_space, truth_of, make_prior):
    pool = CandidatePool(wide_space, seed=0)
    study = new_study(EHVISampler(None, pool=pool, prior=make_prior(), seed=0))
    found = run(study, 8, pool.distributions, truth=lambda v: truth_of(v)[0], cost=lambda v: float(truth_of(v)[1]))
    assert len({wide_space.candidate(values).id for values in found}) == 8


class TestManyWorkers:
    """With some dozens of running trials proposals are made for several asks at once."""

    def asked(self, pending: int) -> tuple[EHVISampler, optuna.Study, list]:
        sampler = EHVISampler(weights, GRID, seed=0, startup=4)
        study = new_study(sampler)
        run(study, 8)
        return sampler, study, [study.ask(GRID) for _ in range(pending)]

    def test_all_of_them_are_different(self):
        _, _, running = self.asked(60)
        assert len({tuple(trial.params.values()) for trial in running}) == 60

    def test_the_model_learns_between_batches_only(self, monkeypatch):
        sampler, study, _ = self.asked(40)
        sampler._waiting.clear()
        reads = []
        read = sampler._observations.read
        monkeypatch.setattr(sampler._observations, "read", lambda *of: reads.append(1) or read(*of))
        for _ in range(20):
            study.ask(GRID)
        assert 3 <= len(reads) <= 7  # for four to six asks each

    def test_few_workers_are_answered_one_by_one(self):
        sampler, _, _ = self.asked(10)
        assert not sampler._waiting

    def test_a_batch_is_about_as_good_as_asking_in_a_row(self, monkeypatch):
        found = []
        for share in (0.0, 0.1):
            monkeypatch.setattr(ehvi_sampler, "_BATCHED_RUNNING", share)
            _, _, running = self.asked(60)
            found.append(hypervolume([trial.params for trial in running]))
        assert found[1] > 0.97 * found[0]


def test_of_very_many_observations_a_part_conditions_the_model(monkeypatch):
    monkeypatch.setattr(ehvi_sampler, "_CONDITIONED", 20)
    sampler = EHVISampler(weights, GRID, seed=0, startup=4)
    study = new_study(sampler)
    found = run(study, 60)
    assert sampler._model.size == 20
    assert hypervolume(found) > 0.9 * hypervolume(ALL)
