"""Predicting where a curve ends."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnas.search.strategy.learning_curves import LOG_ERROR, CurveModel, Prediction

EPOCHS = 10


def curves(count: int, seed: int = 0, noise: float = 0.0, rise: float = 0.6) -> list[list[float]]:
    """Accuracies; z, the negative log error, starts at 0.4 to 1 and rises by `rise` and half of what it lacks to 1."""
    rng = np.random.default_rng(seed)
    starts, shares = rng.uniform(0.4, 1.0, count), np.linspace(0, 1, EPOCHS)
    clean = starts[:, None] + (rise + 0.5 * (1 - starts))[:, None] * shares
    return LOG_ERROR.untransform(clean + rng.normal(0, noise, clean.shape)).tolist()


def taught(known, others=()) -> CurveModel:
    model = CurveModel(EPOCHS, others)
    for curve in known:
        model.add(curve)
    return model


def test_nothing_is_predicted_from_few_curves_or_before_the_first_epoch():
    model = taught(curves(5))
    assert model.predict([0.5]) is None
    model.add(curves(6)[-1])
    assert model.predict([0.5]) is not None
    assert model.predict([]) is None


def test_curves_that_follow_a_rule_are_continued_by_it():
    model = taught(curves(40))
    for curve in curves(10, seed=1):
        for epoch in (1, 5, 9):
            expected = model.predict(curve[:epoch])
            assert expected.mean == pytest.approx(curve[-1], abs=0.01)
            assert expected.std < 0.03


def test_a_whole_curve_is_known():
    known = taught(curves(10)).predict(curves(1)[0])
    assert (known.mean, known.std) == (pytest.approx(curves(1)[0][-1]), 0.0)


def test_mean_quantiles_and_std_are_accuracies():
    """One standard deviation halves the error: with an offset of 0.01, from 0.10 to 0.05 and to 0.20."""
    expected = Prediction(-math.log(0.1), math.log(2))
    assert expected.mean == pytest.approx(0.91)
    assert expected.quantile(1) == pytest.approx(0.96)
    assert expected.quantile(-1) == pytest.approx(0.81)
    assert expected.std == pytest.approx(0.075)


@pytest.mark.parametrize("known", [8, 30])
@pytest.mark.parametrize("epoch", [1, 4, 8])
def test_the_uncertainty_is_honest(known, epoch):
    """Of many curves about 95 % end within two standard deviations, and not all within one."""
    within = {1: 0, 2: 0}
    total = 0
    for seed in range(20):
        model = taught(curves(known, seed, noise=0.1))
        for curve in curves(20, 1000 + seed, noise=0.1):
            expected = model.predict(curve[:epoch])
            for deviations in within:
                within[deviations] += expected.quantile(-deviations) <= curve[-1] <= expected.quantile(deviations)
            total += 1
    assert 0.9 < within[2] / total <= 1
    assert 0.55 < within[1] / total < 0.9


def test_the_uncertainty_falls_with_the_epochs():
    model = taught(curves(30, noise=0.02))
    curve = curves(1, 5, noise=0.02)[0]
    stds = [model.predict(curve[:epoch]).std for epoch in (1, 9)]
    assert stds[1] <= 1.1 * stds[0]


def test_curves_on_other_data_help_where_few_are_known():
    """They rise by another amount, but those that start low rise more there, too."""
    others = [np.repeat(curve, 2).tolist() for curve in curves(50, 7, rise=0.2)]
    errors = {"alone": 0.0, "helped": 0.0}
    for seed in range(20):
        known = curves(6, seed, noise=0.1)
        for curve in curves(10, 100 + seed, noise=0.1):
            errors["alone"] += abs(taught(known).predict(curve[:3]).mean - curve[-1])
            errors["helped"] += abs(taught(known, others).predict(curve[:3]).mean - curve[-1])
    assert errors["helped"] < errors["alone"]


def test_other_curves_alone_predict_nothing():
    assert CurveModel(EPOCHS, curves(50)).predict([0.5]) is None


@pytest.mark.filterwarnings("error")
def test_where_all_ended_alike_a_curve_says_nothing_new():
    model = taught([[*curve[:-1], 0.9] for curve in curves(8, noise=0.1)])
    assert model.curve_likelihood(curves(1, seed=1)[0][:5]) is None


def test_curves_of_another_length_are_left_out():
    model = taught([curve[:5] for curve in curves(20)])
    assert model.predict([0.5, 0.6]) is None


@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=6, max_size=12), st.data())
def test_any_curves_give_finite_predictions(known, data):
    model = CurveModel(4)
    for curve in known:
        model.add(curve)
    partial = data.draw(st.lists(st.floats(0, 1), min_size=1, max_size=3))
    expected = model.predict(partial)
    assert np.isfinite(expected.mean)
    assert expected.std >= 0
    assert expected.quantile(-2) <= expected.mean <= expected.quantile(2) <= 1.01
