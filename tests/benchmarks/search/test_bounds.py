"""benchmarks/search/bounds.py: bounds of searches, and what curves say beyond a model."""

import sys
from pathlib import Path

import numpy as np
import pytest

from mgnas.reports.simulation.efficiency import SHARES
from mgnas.reports.simulation.scoring import HypervolumeScorer
from mgnas.search.history.past_trainings import shipped_tables
from mgnas.search.history.table import TableRow, TabularBenchmark
from mgnas.search.samplers.features import architecture_features
from mgnas.search.samplers.gaussian_process import AccuracyModel, AccuracyPosterior
from mgnas.search.samplers.outcome_transforms import LogErrorTransform

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "search"))
import bounds


@pytest.fixture(scope="module")
def digits() -> TabularBenchmark:
    return TabularBenchmark.load(shipped_tables()["digits"])


def test_what_is_left_out_is_predicted_from_all_others(digits):
    """Of one network that was trained three times: as a model without these trainings predicts it."""
    known = bounds.leave_one_out(digits)
    name = next(name for name, rows in digits.by_id.items() if len(rows) == 3)
    x = np.array([architecture_features(row.config) for row in digits.rows])
    z = LogErrorTransform().transform(np.array([row.curve[-1] for row in digits.rows]))
    own = np.array([row.config.id == name for row in digits.rows])
    learned = AccuracyModel().fit(x, z, np.zeros(len(x))).hyperparameters
    mean, std = AccuracyPosterior.given(learned, x[~own], z[~own], np.zeros((~own).sum())).predict(x[own][:1])
    index = known.ids.index(name)
    assert known.mean[index] == pytest.approx(mean[0], abs=1e-6)
    assert known.std[index] == pytest.approx(std[0], abs=1e-6)


def test_the_oracle_is_never_slower_than_the_informed_one(digits):
    oracle = HypervolumeScorer(digits).oracle()
    informed = bounds.informed_oracle(digits)
    assert informed == sorted(informed)
    assert all(oracle.epochs_until(share) <= epochs for share, epochs in zip(SHARES, informed, strict=True))


def test_a_curve_that_ends_where_it_was_tells_everything(digits):
    """Constant from the second epoch on, random before."""
    rng = np.random.default_rng(0)
    rows = [
        TableRow(row.config, row.weights, row.seed, (float(rng.random()), row.curve[-1], row.curve[-1]), 1.0)
        for row in digits.rows
    ]
    (_, alone, _), first, second = bounds.curve_residuals(TabularBenchmark(digits.meta, tuple(rows)))
    assert first[1] == pytest.approx(alone, rel=0.02)
    assert second[1] == pytest.approx(0.0, abs=1e-9)


def test_all_of_a_table_carries_over_to_itself(digits):
    *models, (_, networks, whole, equal) = bounds.carried_over(digits, "digits")
    assert networks == len(digits.by_id)
    assert (whole, equal) == pytest.approx((1, 1))
    # Its model has seen these trainings, and smooths them; the one without each network's own knows less.
    (_, _, seen, _), (_, _, left_out, _) = models
    assert 1 > seen > left_out > 0.9


def test_at_equal_weights_what_weights_explain_is_no_correlation():
    rng = np.random.default_rng(0)
    log_weights, x, noise = rng.uniform(3, 5, 200), rng.normal(size=200), rng.normal(size=200)
    alone = bounds._correlation(x, x + noise, log_weights)
    assert alone == pytest.approx(0.7, abs=0.1)
    assert bounds._correlation(x + log_weights**3, x + noise - 9 * log_weights, log_weights) == pytest.approx(alone)
    assert bounds._correlation(x + 9 * log_weights, noise + 9 * log_weights) > 0.9
