"""How the next point is chosen: by the design, by a prior, by the model, and in batches."""

import math

import moocore
import numpy as np
from grid_problem import ALL, GRID, LARGEST, distinct, hypervolume, new_study, run, weights

from mgnas.search.samplers import proposer as proposer_module
from mgnas.search.samplers.acquisition import expected_hypervolume_improvement
from mgnas.search.samplers.candidate_pool import CandidatePool, scaled
from mgnas.search.samplers.ehvi import EHVISampler
from mgnas.search.samplers.outcome_transforms import LogErrorTransform
from mgnas.search.samplers.proposer import Proposer


def proposer_of(sampler: EHVISampler) -> Proposer:
    return sampler._state.proposer


def test_the_proposal_promises_most_of_what_will_be_observed():
    """By the formula: observations stand in the front at their posterior means, running trials a deviation lower."""
    sampler = EHVISampler(weights, GRID, seed=0)
    study = new_study(sampler)
    told = run(study, 12)
    running = [study.ask(GRID).params for _ in range(2)]
    chosen = study.ask(GRID)
    snapshot = proposer_of(sampler).reader.read(study.trials, chosen.number, {})
    posterior = proposer_of(sampler).posterior(snapshot)
    mean, std = posterior.predict(np.array([scaled(params, GRID) for params in ALL]))
    cost, observed_std = np.log10([weights(params) for params in ALL]), np.hypot(std, posterior.noise)
    old, new = ([ALL.index(params) for params in some] for some in (told, running))
    front = np.concatenate([mean[old], mean[new] - observed_std[new]])
    gains = expected_hypervolume_improvement(mean, observed_std, cost, cost[old + new], front, cost.max(), front.min())
    gains[old + new] = 0
    assert ALL[int(np.argmax(gains))] == chosen.params


def test_while_others_run_the_model_is_used_from_the_second_result_on(wide_space, truth_of, make_prior):
    def first_by_model(workers: int) -> int:
        """Results at the first proposal that the model made."""
        pool = CandidatePool(wide_space, seed=0)
        sampler = EHVISampler(pool=pool, prior=make_prior(), seed=0, outcome_transform=LogErrorTransform())
        study = new_study(sampler)
        running = [study.ask(pool.distributions) for _ in range(workers)]
        for told in range(9):
            if sampler.expectation(study, study.trials[-1].number) is not None:
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


def test_a_prior_proposes_its_front_from_the_first_ask(wide_space, truth_of, make_prior):
    pool = CandidatePool(wide_space, seed=0)
    study = new_study(EHVISampler(pool=pool, prior=make_prior(), seed=0))
    asked = [study.ask(pool.distributions).params for _ in range(10)]
    assert distinct(asked) == 10

    points = [(math.log10(cost), accuracy) for accuracy, cost in (truth_of(p.params) for p in pool.points)]
    largest, lowest = max(cost for cost, _ in points), min(accuracy for _, accuracy in points)

    def share(chosen) -> float:
        minimised = np.array([(cost, 1 - accuracy) for cost, accuracy in chosen])
        whole = np.array([(cost, 1 - accuracy) for cost, accuracy in points])
        reference = (largest, 1 - lowest)
        return moocore.hypervolume(minimised, ref=reference) / moocore.hypervolume(whole, ref=reference)

    assert share([(math.log10(w), a) for a, w in map(truth_of, asked)]) > 0.9


def test_with_results_the_prior_becomes_part_of_the_model(wide_space, truth_of, make_prior):
    pool = CandidatePool(wide_space, seed=0)
    study = new_study(EHVISampler(pool=pool, prior=make_prior(), seed=0))
    asked = run(study, 8, pool.distributions, truth=lambda p: truth_of(p)[0], cost=lambda p: float(truth_of(p)[1]))
    assert len({wide_space.candidate(params).id for params in asked}) == 8


def test_nothing_that_costs_as_much_as_the_reference_is_proposed_by_the_model():
    sampler = EHVISampler(weights, GRID, seed=0, startup=4, reference=(0.0, 500.0))
    asked = run(new_study(sampler), 24)
    assert max(map(weights, asked[4:])) < 500


class TestManyWorkers:
    """With some dozens of running trials proposals are made for several asks at once."""

    def asked(self, pending: int) -> tuple[Proposer, list, object]:
        sampler = EHVISampler(weights, GRID, seed=0, startup=4)
        study = new_study(sampler)
        run(study, 8)
        running = [study.ask(GRID) for _ in range(pending)]
        return proposer_of(sampler), running, study

    def test_all_of_them_are_different(self):
        _, running, _ = self.asked(60)
        assert len({tuple(trial.params.values()) for trial in running}) == 60

    def test_the_model_learns_between_batches_only(self, monkeypatch):
        proposer, _, study = self.asked(40)
        proposer.waiting.clear()
        reads = []
        read = proposer.reader.read
        monkeypatch.setattr(proposer.reader, "read", lambda *of: reads.append(1) or read(*of))
        for _ in range(20):
            study.ask(GRID)
        assert 3 <= len(reads) <= 7  # for four to six asks each

    def test_few_workers_are_answered_one_by_one(self):
        proposer, _, _ = self.asked(10)
        assert not proposer.waiting

    def test_a_batch_is_about_as_good_as_asking_in_a_row(self, monkeypatch):
        volumes = []
        for share in (0.0, 0.1):
            monkeypatch.setattr(proposer_module, "_BATCH_SHARE_OF_RUNNING", share)
            _, running, _ = self.asked(60)
            volumes.append(hypervolume([trial.params for trial in running]))
        assert volumes[1] > 0.97 * volumes[0]


def test_of_very_many_observations_a_part_conditions_the_model(monkeypatch):
    monkeypatch.setattr(proposer_module, "_MAX_CONDITIONED", 20)
    sampler = EHVISampler(weights, GRID, seed=0, startup=4)
    study = new_study(sampler)
    asked = run(study, 60)
    snapshot = proposer_of(sampler).reader.read(study.trials, 60, {})
    assert len(snapshot.observed) == 60
    assert proposer_of(sampler).posterior(snapshot).size == 20
    assert hypervolume(asked) > 0.9 * hypervolume(ALL)
