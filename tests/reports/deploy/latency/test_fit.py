"""Latency models on networks whose times are sums by construction."""

from dataclasses import astuple, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnas.models import ArchitectureConfig
from mgnas.models.cost import Cost, total_cost
from mgnas.reports.deploy.latency.fit import fit_latency, fit_with_error
from mgnas.space.latency import LatencyModel

COSTS = [
    total_cost(
        ArchitectureConfig(family="mgiad", base_channels=(width, 2 * width), smoothing_steps=steps, group_size=4), 32
    )
    for width in (8, 16, 32)
    for steps in (1, 2, 3)
]


def test_a_prediction_is_a_sum_worked_out_by_hand():
    model = LatencyModel(network=0.5, calls=0.25, groups=0.125, dense=2.0, unfolded=4.0, written=16, transferred=8)
    counts = {"calls": 8, "groups": 16, "unfolded": 500_000, "written": 750_000, "transferred": 250_000}
    cost = Cost(macs=3_000_000, grouped_macs=1_000_000, **counts)
    assert model.milliseconds(cost) == 0.5 + 8 * 0.25 + 16 * 0.125 + 2 * 2.0 + 0.5 * 4.0 + 0.75 * 16 + 0.25 * 8.0


@given(times=st.tuples(*7 * [st.floats(0.01, 10)]))
def test_times_of_a_model_are_predicted_exactly(times):
    truth = LatencyModel(**dict(zip([field.name for field in fields(LatencyModel)], times, strict=True)))
    milliseconds = [truth.milliseconds(cost) for cost in COSTS]
    fitted = fit_latency(COSTS, milliseconds)
    assert [fitted.milliseconds(cost) for cost in COSTS] == pytest.approx(milliseconds, rel=1e-6)
    assert min(astuple(fitted)) >= 0


def test_the_error_is_that_of_networks_that_the_model_does_not_know():
    # All take 1 ms but one, which takes 2: each of the others is predicted from a mean that the odd one moves.
    costs = [Cost()] * 5
    fitted = fit_with_error(costs, [1.0, 1.0, 1.0, 1.0, 2.0])
    # The least sum of squared relative errors of four: (3 + 1/2) / (3 + 1/4).
    assert fitted.error == pytest.approx(3.5 / 3.25 - 1)
    assert fitted.networks == 5
