"""benchmarks/training/observations.py: which networks are trained, scores of untrained networks, predictions."""

import json
import math

import numpy as np
import observations
import pytest
import torch
from observations import OBSERVATIONS, Observed, jacobian_score, networks_of, ratio_interval, synflow
from resumable import Job
from torch import nn

from mgnas.errors import UserError
from mgnas.search.history.table import SHIPPED, TabularBenchmark


def jobs(*more) -> list[Job]:
    return list(observations.jobs(observations.parse(["--out", "unused", *more])))


# ---------------------------------------------------------------------------------------------------- what is trained


def test_networks_are_spread_over_the_weights_of_the_table():
    table = TabularBenchmark.load(SHIPPED / "digits.json.gz")
    weights = [table.by_id[config.id][0].weights for config in networks_of(table, 60)]
    assert weights == sorted(weights)
    assert len(weights) == 60
    assert (weights[0], weights[-1]) == (min(row.weights for row in table.rows), max(row.weights for row in table.rows))
    with pytest.raises(UserError, match="--networks 321: the table digits has 320; name 2 to 320"):
        networks_of(table, 321)


def test_each_network_is_trained_with_each_seed_by_the_recipe_of_its_table():
    made = jobs("--networks", "3", "--seeds", "2")
    assert [(job.labels["data"], job.seed) for job in made] == 3 * [("digits", 0)] + 3 * [("cifar10", 0)] + 3 * [
        ("digits", 1)
    ] + 3 * [("cifar10", 1)]
    assert [job.training.epochs for job in made[::3]] == [16, 8, 16, 8]
    assert [job.images.image_size for job in made[::3]] == [None, 16, None, 16]


# ------------------------------------------------------------------------------------------------ the untrained network


def test_synflow_of_two_linear_layers():
    # With positive weights the output for ones is the sum over paths; each layer's weight x gradient sums to it.
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 3, bias=False), nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 0.0], [-1.0, 1.0]]))
        model[2].weight.copy_(torch.tensor([[2.0, -1.0, 4.0]]))
    assert synflow(model, (1, 1, 2)) == pytest.approx(math.log(2 * (2 * 3 + 1 * 3 + 4 * 2)))


def test_the_jacobian_score_is_best_for_gradients_without_correlation():
    images = torch.zeros(2, 1, 1, 3)

    class Given(nn.Module):
        """Its gradients with respect to the images are these."""

        def __init__(self, gradients):
            super().__init__()
            self.gradients = torch.tensor(gradients).reshape(2, 1, 1, 3)

        def forward(self, x):
            return (x * self.gradients).sum((1, 2, 3))[:, None]

    different = jacobian_score(Given([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]), images)
    assert different == pytest.approx(-math.log(2), abs=1e-4)  # both eigenvalues are 1
    alike = jacobian_score(Given([[1.0, -1.0, 0.0], [2.0, -2.0, 0.0]]), images)
    assert alike == pytest.approx(-math.log(1e5), abs=1e-3)  # the eigenvalues are 2 and 0


# ---------------------------------------------------------------------------------------------------------- the table


def made(n=40, seeds=4, noise=0.02, seed=0) -> Observed:
    """Networks of known quality; `exact` tells it, `accuracy` with noise, `noise` tells nothing."""
    rng = np.random.default_rng(seed)
    z, quality = rng.uniform(3, 5, n), rng.normal(0, 0.05, n)
    expected = (0.5 + 0.1 * z + quality)[:, None]
    values = {
        "exact": np.repeat(expected, seeds, axis=1),
        "accuracy": expected + rng.normal(0, noise, (n, seeds)),
        "noise": rng.normal(0, 1, (n, seeds)),
    }
    return Observed(z, values)


def root_mean_square(values):
    return math.sqrt(np.square(values).mean())


def test_residuals_are_those_of_the_noise_if_the_observation_is_exact():
    observed = made(n=200)
    floor = observed.deviation_of_others()
    assert floor == pytest.approx(0.02 / math.sqrt(3), rel=0.1)
    assert root_mean_square(observed.residuals(["exact"])) == pytest.approx(floor, rel=0.1)
    # The best linear prediction from one noisy accuracy leaves 1 / (1 / 0.05^2 + 1 / 0.02^2) of the variance.
    left = 1 / (1 / 0.05**2 + 1 / 0.02**2) + 0.02**2 / 3
    assert root_mean_square(observed.residuals(["accuracy"])) == pytest.approx(math.sqrt(left), rel=0.1)
    nothing = root_mean_square(observed.residuals([]))
    assert nothing == pytest.approx(math.sqrt(0.05**2 + 0.02**2 / 3), rel=0.15)
    assert root_mean_square(observed.residuals(["noise"])) == pytest.approx(nothing, rel=0.05)


def test_a_network_is_predicted_without_its_own_trainings():
    observed = made()
    residuals = observed.residuals(["accuracy"])
    values = {name: array.copy() for name, array in observed.values.items()}
    values["accuracy"][7] += 10
    outlier = Observed(observed.z, values)
    # The outlier's prediction is as before for an observation that did not change.
    np.testing.assert_allclose(
        outlier.residuals(["exact"])[7] - outlier.others[7], observed.residuals(["exact"])[7] - observed.others[7]
    )
    assert residuals.shape == (40, 4)


def test_the_better_half_has_the_higher_accuracies_at_equal_weights():
    observed = made()
    half = observed.better_half()
    excess = observed.values["accuracy"].mean(axis=1) - np.polyval(
        np.polyfit(observed.z, observed.values["accuracy"].mean(axis=1), 2), observed.z
    )
    assert sorted(half.z) == sorted(observed.z[excess >= np.median(excess)])


def test_ratios_and_their_intervals():
    rng = np.random.default_rng(0)
    baseline = rng.normal(size=(60, 4))
    assert ratio_interval(0.5 * baseline, baseline) == pytest.approx((0.5, 0.5, 0.5))
    ratio, low, high = ratio_interval(rng.normal(size=(60, 4)), baseline)
    assert low < ratio < high
    assert low < 1 < high


def test_the_script_goes_on_where_it_ended_and_prints_a_row_for_each_observation(tmp_path, capsys, monkeypatch):
    out = tmp_path / "out.jsonl"
    arguments = ["--out", str(out), "--data", "digits", "--networks", "2", "--seeds", "1"]
    assert observations.main([*arguments, "--minutes", "0"]) == 0
    assert "1 trainings are left" in capsys.readouterr().out
    (line,) = map(json.loads, out.read_text().splitlines())
    assert line["accuracy"] == line["plain"][-1]["accuracy"]
    assert line["zero_cost"].keys() == {"gradient", "jacobian", "synflow"}
    rng = np.random.default_rng(0)
    with out.open("w") as file:
        for network in range(48):
            for seed in range(2):
                job = line["job"] | {"network": str(network), "seed": seed}
                values = rng.uniform(0.5, 1, 4)
                quality = {"accuracy": values[0], "probability": values[1], "cross_entropy": values[2]}
                zero = dict.fromkeys(line["zero_cost"], values[3])
                row = line | {"job": job, "weights": 1000 + network, "accuracy": values[0], "zero_cost": zero}
                file.write(json.dumps(row | {"plain": 3 * [quality], "averaged": 3 * [quality]}) + "\n")
    assert observations.main([*arguments, "--show"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("| observation | digits (48 networks) | digits, better half (24 networks) |")
    assert len(printed) == 2 + len(OBSERVATIONS) + 1
    assert ", 1.00 (1.00 to 1.00)" in next(row for row in printed if row.startswith("| accuracy |"))


def test_images_of_ones_own_are_refused(tmp_path, capsys):
    assert observations.main(["--out", str(tmp_path / "out"), "--images", "10", "10"]) == 1
    assert capsys.readouterr().err == "error: --images: the images are those of the tables; leave it out\n"
