"""benchmarks/training/fidelity.py: which networks, what is measured in a training, correlations and regret."""

import itertools
import json
import math
import statistics

import fidelity
import pytest
from fidelity import band_networks, rank_correlation, regret, summary
from hypothesis import given
from hypothesis import strategies as st
from resumable import Job

from mgnas.search.config import SearchConfig

CONFIG = """
name: tiny
data: {name: digits, train_images: 100, validation_fraction: 0.4}
space:
  fixed: {family: mgnet, resolution_transfer: dense}
  parameters:
    base_channels: [[4, 4], [4, 8], [8, 4], [8, 8]]
    smoothing_steps: [1, 2]
    sharing: [A, AB]
training: {epochs: 1, batch_size: 32, crop_padding: 2}
final_training: {epochs: 5, label_smoothing: 0.1}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def run(tmp_path, config, capsys):
    """Call the script with two networks of one band; further options win. Returns (exit code, output, errors)."""

    def call(*more):
        small = ["--config", str(config), "--bands", "2270", "--networks", "2", "--seeds", "2"]
        code = fidelity.main([*small, "--out", str(tmp_path / "out.jsonl"), *map(str, more)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def rows(tmp_path) -> list[dict]:
    return [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]


def jobs(config, *more) -> list[Job]:
    return list(fidelity.jobs(fidelity.parse(["--out", "unused", "--config", str(config), *more])))


# ---------------------------------------------------------------------------------------------------- what is trained


def test_networks_of_a_band_weigh_the_same_within_a_tenth_and_do_not_depend_on_other_bands():
    space = SearchConfig.load(fidelity.CONFIG).search_space()
    both = band_networks(space, ["20k", "60k"], 8)
    for band, centre in (("20k", 20_000), ("60k", 60_000)):
        weights = [candidate.weights for candidate in both[band]]
        assert max(weights) <= 1.1 * min(weights)
        assert centre / 1.05 <= min(weights) <= max(weights) <= 1.05 * centre
        assert len({candidate.id for candidate in both[band]}) == 8
    assert [c.id for c in band_networks(space, ["60k"], 8)["60k"]] == [c.id for c in both["60k"]]


def test_each_network_is_trained_for_three_lengths_with_their_own_schedules(config):
    made = jobs(config, "--bands", "2270", "--networks", "2", "--seeds", "1", "--epochs", "4", "--final", "20")
    assert [job.training.epochs for job in made] == [4, 12, 20] * 2
    assert [job.training.warmup_epochs for job in made[:3]] == [4, 12, 4]
    # The last training has the recipe of final trainings.
    assert [job.training.label_smoothing for job in made[:3]] == [0, 0, 0.1]


def test_seeds_follow_each_other_and_bands_take_turns(config):
    made = jobs(config, "--bands", "2270", "2990", "--networks", "2", "--seeds", "2")
    order = [(job.seed, job.labels["band"]) for job in made[::3]]
    assert order == [(seed, band) for seed in (0, 1) for _ in range(2) for band in ("2270", "2990")]
    assert len({(job.seed, job.labels["network"], job.training.epochs) for job in made}) == len(made) == 24


def test_fewer_images_and_smaller_ones(tmp_path):
    (tmp_path / "cifar.yaml").write_text(
        CONFIG.replace("name: digits, train_images: 100, validation_fraction: 0.4", "name: cifar10")
    )
    options = ["--bands", "2270", "--networks", "2", "--seeds", "1", "--images", "30", "10", "--image-size", "16"]
    (made, *_) = jobs(tmp_path / "cifar.yaml", *options, "--data-cifar10", "some.npz")
    assert (made.images.train_images, made.images.validation_fraction) == (40, 0.25)
    assert (made.images.image_size, made.images.path) == (16, "some.npz")
    assert made.training.crop_padding == 1


def test_an_interrupted_comparison_goes_on_with_what_is_missing(run, tmp_path):
    code, output, _ = run("--minutes", "0")
    assert code == 0
    assert "11 trainings are left" in output
    assert output.endswith("There is no network yet with both a short and a final training.\n")
    _, output, _ = run()
    assert output.count("seed") == 11 + 1  # and the title of a column
    assert [row["job"]["seed"] for row in rows(tmp_path)] == [0] * 6 + [1] * 6
    assert all(len(row["plain"]) == min(row["job"]["epochs"], 3) for row in rows(tmp_path))
    table = output[output.index("| config") :]
    assert run() == (0, table, "")
    assert run("--show", "--bands", "9") == (0, table, "")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--bands", "many"), "error: --bands: expected a whole number such as 20000"),
        (("--bands", "90k"), "error: --bands 90k: the space has only 0 networks of about 90,000 weights, not 2; "),
        (("--epochs", "2"), "error: --final: 5 epochs must be more than three times --epochs, 2"),
        (("--config", "missing.yaml"), "error: missing.yaml: "),
        (("--image-size", "7"), "error: data.image_size: "),
    ],
)
def test_bad_options_are_one_line(run, tmp_path, monkeypatch, more, message):
    monkeypatch.setattr(fidelity, "_TRIES", 100)
    code, _, errors = run(*more)
    assert code == 1
    assert errors.startswith(message)
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "out.jsonl").exists()


# ------------------------------------------------------------------------------------------------------------ the table


@given(st.lists(st.floats(0, 1), min_size=3, max_size=9, unique=True), st.randoms(use_true_random=False))
def test_the_rank_correlation_of_n_ranks_is_that_of_the_formula(values, random):
    """Spearman: 1 - 6 sum d^2 / (n (n^2 - 1))."""
    names = [str(index) for index in range(len(values))]
    ranks, n = random.sample(range(len(values)), len(values)), len(values)
    ordered = dict(zip(names, sorted(values), strict=True))
    squares = sum((rank - index) ** 2 for index, rank in enumerate(ranks))
    measured = rank_correlation(ordered, {name: float(rank) for name, rank in zip(names, ranks, strict=True)})
    assert measured == pytest.approx(1 - 6 * squares / (n * (n * n - 1)))


def test_too_few_or_equal_networks_have_no_rank_correlation():
    three = {"a": 1.0, "b": 2.0, "c": 3.0}
    assert math.isnan(rank_correlation(three, {"a": 1.0, "b": 2.0, "d": 3.0}))
    assert math.isnan(rank_correlation(three, dict.fromkeys("abc", 0.5)))


def test_regret_is_what_is_lost_against_the_best():
    final = {"a": 0.5, "b": 0.7, "c": 0.9, "not in short": 1.0}
    assert regret({"a": 0.1, "b": 0.3, "c": 0.2}, final) == pytest.approx(0.2)
    assert regret({"a": 0.1, "b": 0.2, "c": 0.3}, final) == pytest.approx(0)
    # Two are equal, so each is chosen half of the time.
    assert regret({"a": 0.3, "b": 0.2, "c": 0.3}, final) == pytest.approx(0.2)
    assert math.isnan(regret({}, final))


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1)), min_size=1, max_size=7), st.data())
def test_regret_among_some_of_the_networks_is_the_mean_over_all_subsets(networks, data):
    count = data.draw(st.integers(1, len(networks)))
    short, final = ({str(i): pair[side] for i, pair in enumerate(networks)} for side in (0, 1))
    chosen = []
    for subset in itertools.combinations(networks, count):
        highest = max(value for value, _ in subset)
        chosen.append(statistics.fmean(accuracy for value, accuracy in subset if value == highest))
    expected = max(final.values()) - statistics.fmean(chosen)
    assert regret(short, final, count) == pytest.approx(expected, abs=1e-9)


def line(network: str, epochs: int, seed: int, last: float | None, averaged: float = 0.5, band: str = "20k") -> dict:
    job = {"config": "tiny", "band": band, "network": network, "epochs": epochs, "seed": seed}
    plain = [] if last is None else [0.5, 0.5, last]
    return {"job": job, "accuracy": last, "plain": plain, "averaged": [averaged] * len(plain)}


# Means of the final accuracies: a 0.60, b 0.70, c 0.80. The seeds agree in none but the order of c and a.
FINALS = [("a", 0, 0.62), ("b", 0, 0.61), ("c", 0, 0.80), ("a", 1, 0.58), ("b", 1, 0.79), ("c", 1, 0.80)]


def test_the_table_of_a_band():
    found = [line(network, 9, seed, accuracy) for network, seed, accuracy in FINALS]
    found += [line("a", 2, 0, 0.1, 0.3), line("b", 2, 0, 0.2, 0.2), line("c", 2, 0, 0.3, 0.1)]
    found += [line("a", 2, 1, 0.1, 0.3), line("b", 2, 1, 0.3, 0.2), line("c", 2, 1, 0.2, 0.1)]
    last, mean, averaged = summary(found)
    assert (last["band"], last["epochs"], last["networks"], last["judged by"]) == ("20k", 2, "3", "last epoch")
    # 1 with seed 0, 1 - 6 * 2 / 24 = 0.5 with seed 1; so it is between the seeds' finals.
    assert (last["rank correlation"], last["between seeds"]) == ("0.75", "0.50")
    # Seed 0 chooses c, seed 1 chooses b.
    assert (last["regret"], last["at random"]) == ("5.00", "10.00")
    assert last["at equal cost"] == last["regret"]
    assert (mean["rank correlation"], mean["regret"]) == ("0.75", "5.00")
    assert (averaged["rank correlation"], averaged["regret"]) == ("-1.00", "20.00")


def test_longer_trainings_at_equal_cost_choose_among_fewer_networks():
    found = [line(network, 9, seed, accuracy) for network, seed, accuracy in FINALS]
    for epochs in (2, 3):
        found += [line("a", epochs, 0, 0.1), line("b", epochs, 0, 0.2), line("c", epochs, 0, 0.3)]
    table = {row["epochs"]: row for row in summary(found) if row["judged by"] == "last epoch"}
    # Two of three in place of three: c is among them in two thirds of the cases, and b is chosen in the others.
    assert [table[epochs]["regret"] for epochs in (2, 3)] == ["0.00", "0.00"]
    assert [table[epochs]["at equal cost"] for epochs in (2, 3)] == ["0.00", "3.33"]


def test_a_diverged_training_counts_as_one_that_learned_nothing():
    found = [line(network, 9, seed, accuracy) for network, seed, accuracy in FINALS]
    found += [line("a", 2, 0, 0.1), line("b", 2, 0, 0.2), line("c", 2, 0, None)]
    (last, *_) = summary(found)
    assert (last["rank correlation"], last["regret"]) == ("-0.50", "10.00")


def test_the_mean_over_the_bands_follows_them_by_weights():
    found = []
    for band, order in (("140k", "cba"), ("20k", "abc")):
        found += [
            line(network, 9, 0, accuracy, band=band) for network, accuracy in zip("abc", (0.6, 0.7, 0.8), strict=True)
        ]
        found += [
            line(network, 2, 0, accuracy, band=band) for network, accuracy in zip(order, (0.1, 0.2, 0.3), strict=True)
        ]
    by_band = {row["band"]: row for row in summary(found) if row["judged by"] == "last epoch"}
    assert list(by_band) == ["20k", "140k", "mean"]
    assert [row["rank correlation"] for row in by_band.values()] == ["1.00", "-1.00", "0.00"]
    assert [row["regret"] for row in by_band.values()] == ["0.00", "20.00", "10.00"]
    assert [row["between seeds"] for row in by_band.values()] == ["", "", ""]


def test_without_final_trainings_there_is_nothing_to_compare():
    assert summary([]) == []
    assert summary([line("a", 2, 0, 0.5)]) == []
