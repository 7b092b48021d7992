"""What holds in every search, whatever sampler, pausing rule, failures and order of events: many simulated ones."""

import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mgnas.models import ArchitectureConfig, count_weights
from mgnas.reports.analysis.pareto import pareto_front
from mgnas.search.history.table import TableRow, TabularBenchmark
from mgnas.search.samplers.candidate_pool import CandidatePool
from mgnas.search.samplers.ehvi import EHVISampler
from mgnas.search.samplers.factory import make_sampler
from mgnas.search.samplers.outcome_transforms import LogErrorTransform
from mgnas.search.samplers.transfer_prior import TransferPrior
from mgnas.search.simulation.simulator import simulate
from mgnas.search.simulation.surrogate import surrogate_table
from mgnas.search.strategy.pausing import make_pausing_rule
from mgnas.search.strategy.strategy import Decision, Strategy
from mgnas.search.trial_record import TrialState

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "search"))
from mo_asha import MultiObjectiveASHA

EPOCHS = 4
NETWORKS = [
    ArchitectureConfig(family="mgnet", base_channels=channels, sharing="A", smoothing_steps=steps, in_channels=1)
    for channels in ((4,), (6,), (8,), (4, 8), (8, 8), (6, 12))
    for steps in range(1, 7)
]
WEIGHTS = [count_weights(network) for network in NETWORKS]


def make_table(seed: int, size: int, noise: float, limit: int | None) -> TabularBenchmark:
    """`size` of the networks, better with more weights or not, one to three trainings each; some curves fall."""
    rng = np.random.default_rng(seed)
    tendency, rows = rng.normal(0, 0.1), []
    for index in rng.permutation(len(NETWORKS))[:size]:
        final = 0.6 + tendency * np.log2(WEIGHTS[index] / WEIGHTS[0]) + rng.normal(0, 0.1)
        for training in range(rng.integers(1, 4)):
            end = np.clip(final + rng.normal(0, noise), 0.05, 1)
            curve = np.clip(np.linspace(rng.uniform(0, 1), end, EPOCHS), 0, 1)
            row = NETWORKS[index], WEIGHTS[index], training, tuple(curve.tolist()), float(rng.uniform(0.5, 5))
            rows.append(TableRow(*row))
    space = {
        "fixed": {"family": "mgnet", "sharing": "A"},
        "parameters": {
            "base_channels": [[4], [6], [8], [4, 8], [8, 8], [6, 12]],
            "smoothing_steps": {"low": 1, "high": 6},
        },
        "limits": {} if limit is None else {"max_weights": limit},
    }
    return TabularBenchmark(
        {"name": "toy", "space": space, "training": {"epochs": EPOCHS}, "shape": [10, 1, 8]}, tuple(rows)
    )


PRIORS = [
    TransferPrior.from_accuracies(NETWORKS, np.clip(values, 0, 1))
    for values in (np.linspace(0.4, 0.9, len(NETWORKS)), np.random.default_rng(1).uniform(0.2, 0.9, len(NETWORKS)))
]
"""One that says something, and one that does not."""


class Unlucky:
    """A strategy some of whose trials die, or end in an accuracy that is not a number; counts what is trained."""

    def __init__(self, strategy: Strategy, chance: float, seed: int) -> None:
        self.strategy, self.chance = strategy, chance
        self.rng = np.random.default_rng(seed)
        self.epochs: dict[int, int] = {}
        self.running: set[int] = set()
        self.most = 0

    def ask(self):
        record = self.strategy.ask()
        if record is not None:
            assert record.number not in self.running
            assert record.state is TrialState.RUNNING
            self.running.add(record.number)
            self.most = max(self.most, len(self.running))
        return record

    def report(self, number, curve, seconds=0.0):
        assert len(curve) == self.epochs.get(number, 0) + 1, "an epoch was trained twice, or left out"
        self.epochs[number] = len(curve)
        if self.rng.random() < self.chance:
            self.running.discard(number)
            if self.rng.random() < 0.5:
                self.strategy.fail(number, "died")
                return Decision.STOP
            curve = [*curve[:-1], float("nan")]
        decision = self.strategy.report(number, curve, seconds)
        if decision is not Decision.CONTINUE:
            self.running.discard(number)
        return decision

    def complete(self, number):
        self.running.discard(number)
        self.strategy.complete(number)


@st.composite
def searches(draw):
    """(table, strategy, workers, chance of a failure per epoch, seed)."""
    seed = draw(st.integers(0, 2**20))
    limit = draw(st.sampled_from([None, None, sorted(WEIGHTS)[len(WEIGHTS) * 2 // 3]]))
    table = make_table(seed, draw(st.integers(9, 30)), draw(st.sampled_from([0.0, 0.02, 0.1])), limit)
    if draw(st.sampled_from([True, *[False] * 7])):
        table = surrogate_table(table, seed)
    try:
        space = table.space()
    except ValueError:
        space = make_table(seed, 9, 0.0, None).space()
    n_trials = draw(st.integers(1, len(table.by_id) + 5))
    name = draw(st.sampled_from(["random", "tpe", "nsga2", "ehvi", "ehvi", "ehvi"]))
    if name == "ehvi":
        prior = draw(st.sampled_from([None, *PRIORS]))
        pool, transform = CandidatePool(space, seed), LogErrorTransform()
        sampler = EHVISampler(pool=pool, prior=prior, seed=seed, outcome_transform=transform)
    else:
        sampler = make_sampler(name, seed, space)
    rule = draw(st.sampled_from(["none", "pareto", "halving"]))
    rule = MultiObjectiveASHA(EPOCHS) if rule == "halving" else make_pausing_rule(rule, EPOCHS)
    strategy = Strategy(space, sampler, n_trials, seed, pausing_rule=rule)
    chance = draw(st.sampled_from([0.0, 0.0, 0.03, 0.3, 1.0]))
    return table, strategy, draw(st.sampled_from([1, 2, 8, 40])), chance, seed


def check(search) -> None:
    table, strategy, workers, chance, seed = search
    unlucky = Unlucky(strategy, chance, seed)
    replay = simulate(table, unlucky, workers, seed)
    records = strategy.records
    # It ends: nothing runs, nothing more is handed out.
    assert not unlucky.running
    assert unlucky.most <= workers
    assert strategy.finished
    assert strategy.ask() is None
    assert all(record.state is not TrialState.RUNNING for record in records)
    # No budget is exceeded.
    assert len(records) <= strategy.n_trials
    assert replay.epochs == sum(unlucky.epochs.values()) <= EPOCHS * strategy.n_trials
    limit = strategy.space.limits.max_weights
    assert limit is None or all(record.weights <= limit for record in records)
    # Nothing is trained twice.
    assert len({record.candidate.id for record in records}) == len(records)
    # Only complete trials are results.
    complete = [record for record in records if record.state is TrialState.COMPLETE]
    assert all(len(record.curve) == EPOCHS for record in complete)
    assert {done.number for done in replay.completions} == {record.number for record in complete}
    assert {trial.number for trial in pareto_front(records)} <= {record.number for record in complete}
    told = [trial.values for trial in strategy._study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))]
    assert sorted(told) == sorted([record.accuracy, float(record.weights)] for record in complete)
    for record in records:
        if record.state is TrialState.PAUSED:
            assert record.accuracy is None
            assert record.decisions


quick = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@settings(quick, max_examples=50)
@given(searches())
def test_what_holds_in_every_search(search):
    check(search)


@pytest.mark.slow
@settings(quick, max_examples=1000, derandomize=False)
@given(searches())
def test_what_holds_in_a_thousand_searches(search):
    check(search)
