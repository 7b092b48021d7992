"""What the trials of a study tell a sampler."""

import math

import optuna
import pytest
from grid_problem import GRID, weights
from optuna.trial import TrialState

from mgnas.search.samplers.candidate_pool import DistributionPool
from mgnas.search.samplers.study_snapshot import StudyReader
from mgnas.search.trial_record import GaussianPrediction

PARAMS = [{"width": width, "depth": 1, "kind": "plain"} for width in range(1, 6)]


@pytest.fixture
def study():
    """Trials 0 complete, 1 failed, 2 and 3 running; 4 has no parameters yet."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    for params in PARAMS[:4]:
        study.enqueue_trial(params)
    trials = [study.ask(GRID) for _ in range(4)] + [study.ask()]
    study.tell(trials[0], (0.5, 9.0))
    study.tell(trials[1], state=TrialState.FAIL)
    return study


@pytest.fixture
def pool():
    return DistributionPool(GRID, weights)


def params_of(points) -> list[dict]:
    return [point.params for point in points]


def test_complete_trials_are_observed_and_running_ones_pending(study, pool):
    snapshot = StudyReader(pool).read(study.trials, 4, {})
    assert params_of(snapshot.observed) == PARAMS[:1]
    assert (snapshot.accuracy, snapshot.variance) == ([0.5], [0.0])
    assert params_of(snapshot.pending) == PARAMS[2:4]
    assert params_of(snapshot.points) == [PARAMS[0], *PARAMS[2:4]]
    assert snapshot.started == len(snapshot.seen) == 4, "failed trials count as seen"
    assert snapshot.observed[0].log_cost == pytest.approx(math.log10(9))


def test_predicted_trials_are_observed_with_their_variance(study, pool):
    predictions = {2: GaussianPrediction(0.6, 0.1), 0: GaussianPrediction(0.9, 0.9), 1: GaussianPrediction(0.9, 0.9)}
    snapshot = StudyReader(pool).read(study.trials, 4, predictions)
    assert params_of(snapshot.observed) == [PARAMS[0], PARAMS[2]], "a failed trial has no accuracy"
    assert snapshot.accuracy == [0.5, 0.6], "a result comes before a prediction"
    assert snapshot.variance == pytest.approx([0.0, 0.01])
    assert params_of(snapshot.pending) == PARAMS[3:4]


def test_the_asking_trial_does_not_count(study, pool):
    assert params_of(StudyReader(pool).read(study.trials, 3, {}).pending) == PARAMS[2:3]


def test_an_announced_trial_is_pending_until_it_ends(study, pool):
    reader = StudyReader(pool)
    reader.announce(4, pool.locate(PARAMS[4]))
    assert params_of(reader.read(study.trials, 9, {}).pending) == PARAMS[2:]
    study.tell(4, state=TrialState.FAIL)
    snapshot = reader.read(study.trials, 9, {})
    assert params_of(snapshot.pending) == PARAMS[2:4]
    assert snapshot.started == 4, "it never had these parameters"


def test_trials_with_other_parameters_do_not_count(pool):
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trial(
        optuna.trial.create_trial(values=(0.5, 1.0), params={"width": 3}, distributions={"width": GRID["width"]})
    )
    assert StudyReader(pool).read(study.trials, 1, {}).started == 0
