"""Building tables: which architectures, which are near the front, and that nothing is trained twice."""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mgnas.errors import UserError
from mgnas.models import ArchitectureConfig, count_weights
from mgnas.search.config import SearchConfig
from mgnas.search.history.table import TableRow, TabularBenchmark

BENCHMARKS = Path(__file__).parents[3] / "benchmarks" / "search"
CONFIG = """
name: mini
data: {name: digits, train_images: 200}
space:
  fixed: {family: mgnet}
  parameters:
    base_channels: [[4], [5], [6], [7]]
    smoothing_steps: [1, 2]
training: {epochs: 2, batch_size: 64}
"""


@pytest.fixture(scope="module")
def build_table():
    sys.path.insert(0, str(BENCHMARKS))
    import build_table

    yield build_table
    sys.path.remove(str(BENCHMARKS))


def row(weights: int, *finals: float) -> list[TableRow]:
    """One architecture with so many weights, trained with as many seeds as there are accuracies."""
    config = ArchitectureConfig(family="mgnet", base_channels=(weights,))
    return [TableRow(config, weights, seed, (0.1, final), 1.0) for seed, final in enumerate(finals)]


def test_near_the_front_is_what_lacks_at_most_the_margin_in_the_mean(build_table):
    rows = [*row(10, 0.50), *row(20, 0.495), *row(30, 0.48), *row(40, 0.70, 0.40), *row(50, 0.544), *row(60, 0.53)]
    near = build_table.near_front(rows, 0.01)
    assert {config.config.base_channels[0] for config in rows if config.config.id in near} == {10, 20, 40, 50}


def test_light_networks_are_as_likely_as_heavy_ones(build_table, wide_candidates):
    chosen = build_table.chosen_candidates(wide_candidates, 60, seed=0)
    assert len({candidate.id for candidate in chosen}) == 60
    assert chosen == build_table.chosen_candidates(wide_candidates, 60, seed=0)
    everything, logs = (np.log10([c.weights for c in part]) for part in (wide_candidates, chosen))
    middle = (everything.min() + everything.max()) / 2
    assert (logs < middle).mean() > 1.3 * (everything < middle).mean()


@pytest.fixture(scope="module")
def wide_candidates(tmp_path_factory):
    text = CONFIG.replace("[[4], [5], [6], [7]]", str([[n] for n in range(4, 100, 2)]))
    path = tmp_path_factory.mktemp("wide") / "wide.yaml"
    path.write_text(text)
    return list(SearchConfig.load(path).search_space().enumerate())


ADDED = """
name: mini-added
data: {name: digits, train_images: 200}
space:
  fixed: {fully_coupled_channels: 4}
  parameters:
    family: [mgnet, mgiad]
    base_channels: [[4], [8, 16], [16, 16], [16, 32]]
    smoothing_steps: [1, 2]
    smoother: [learned, polynomial]
    polynomial_degree: [0, 1]
    kernel_size: [3, 5]
    group_size: [1, 2, 4]
training: {epochs: 2, batch_size: 64}
"""


@pytest.fixture
def added_space(tmp_path):
    (tmp_path / "added.yaml").write_text(ADDED)
    return SearchConfig.load(tmp_path / "added.yaml").search_space()


OF_TABLE = {("smoother", "learned"), ("kernel_size", 3), ("group_size", 4)}


def grouped_table() -> TabularBenchmark:
    config = ArchitectureConfig(
        family="mgiad", base_channels=(16,), group_size=4, fully_coupled_channels=4, in_channels=1
    )
    return TabularBenchmark({}, (TableRow(config, count_weights(config), 0, (0.5, 0.6), 1.0),))


def test_every_added_value_stands_in_as_many_networks_as_wanted(build_table, added_space):
    chosen = build_table.additions(added_space, grouped_table(), 6, seed=0)
    configs = [candidate.architecture.canonical() for candidate in chosen]
    assert len({config.id for config in configs}) == len(configs)
    values = [
        build_table.values_in_effect(config, ["smoother", "polynomial_degree", "kernel_size"]) for config in configs
    ]
    groups = [build_table.values_in_effect(config, ["group_size"]) for config in configs]
    for value in (("smoother", "polynomial"), ("polynomial_degree", 0), ("polynomial_degree", 1), ("kernel_size", 5)):
        assert sum(value in own for own in values) >= 6
    for size in (1, 2):  # The table has 4.
        assert sum(("group_size", size) in own for own in groups) >= 6
    # Each of them has a value that the table does not have, and the last one is needed.
    old = {("smoother", "learned"), ("kernel_size", 3), ("group_size", 4)}
    assert all((own | group) - old for own, group in zip(values, groups, strict=True))
    fewer = build_table.additions(added_space, grouped_table(), 5, seed=0)
    assert 12 <= len(fewer) < len(chosen)  # Two degrees exclude each other.
    assert chosen == build_table.additions(added_space, grouped_table(), 6, seed=0)


def test_a_value_counts_only_where_it_has_an_effect(build_table):
    names = ["polynomial_degree", "kernel_size", "group_size", "stem_stride"]
    learned = ArchitectureConfig(family="mgnet", base_channels=(8, 16), polynomial_degree=3, kernel_size=7)
    assert build_table.values_in_effect(learned, names) == {("stem_stride", 1)}
    polynomial = ArchitectureConfig(family="mgnet", base_channels=(8,), smoother="polynomial", polynomial_degree=3)
    assert build_table.values_in_effect(polynomial, names) == {("stem_stride", 1), ("polynomial_degree", 3)}
    # Its one channel level is fully coupled.
    single = ArchitectureConfig(family="mgiad", base_channels=(8,), kernel_size=7, group_size=2)
    assert build_table.values_in_effect(single, names) == {("stem_stride", 1)}


def test_only_trainings_of_the_same_images_and_recipe_are_added(build_table, tmp_path):
    (tmp_path / "added.yaml").write_text(ADDED)
    search = SearchConfig.load(tmp_path / "added.yaml")
    meta = {"training": {"epochs": 2, "batch_size": 64}, "data": {"name": "digits", "train_images": 200}}
    build_table.check_same_task(search, TabularBenchmark(meta, ()), Path("mini.json"))
    for name, value in (("training", {"epochs": 3}), ("data", {"name": "digits", "train_images": 100})):
        with pytest.raises(UserError, match=r"added.yaml: data and training must be those of mini.json"):
            build_table.check_same_task(search, TabularBenchmark(meta | {name: value}, ()), Path("mini.json"))


def test_further_seeds_are_trained_of_what_is_near_the_front_of_all_trainings(build_table, tmp_path):
    """Of the networks of the book: the one of 30 weights is far below the other table's of 20."""
    others = (*row(20, 0.6), *row(50, 0.7))
    book = build_table.Workbook(tmp_path / "mini.jsonl", (*row(10, 0.5), *row(30, 0.55), *row(60, 0.8, 0.8)))
    options = argparse.Namespace(margin=0.01, seeds=2)
    missing = [(config.base_channels, seed) for config, seed in build_table.missing_seeds(book, options, others)]
    assert missing == [((10,), 1)]


@pytest.mark.slow
def test_a_table_is_built_and_continued(tmp_path):
    """Of 8 networks 6 are trained; the second call only adds the seeds that are missing near the front."""
    (tmp_path / "mini.yaml").write_text(CONFIG)

    def build(seeds: int) -> str:
        command = [sys.executable, str(BENCHMARKS / "build_table.py"), "mini.yaml", "mini.json.gz"]
        options = ["--architectures", "6", "--seeds", str(seeds), "--margin", "0.02", "--workers", "1"]
        done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "6 architectures, 0 trainings done already" in build(1)
    first = TabularBenchmark.load(tmp_path / "mini.json.gz")
    assert len(first.rows) == len(first.by_id) == 6
    assert all(len(one.curve) == 2 and one.seconds > 0 for one in first.rows)
    assert {candidate.id for candidate in first.space().enumerate()} == set(first.by_id)
    assert "6 trainings done already" in build(2)
    second = TabularBenchmark.load(tmp_path / "mini.json.gz")
    assert set(first.rows) <= set(second.rows)
    assert len(second.by_id) == 6
    assert any(len(rows) == 2 for rows in second.by_id.values())
    assert second.meta["seeds near the front"] == 2


@pytest.mark.slow
def test_networks_are_added_to_a_table_that_stays_as_it_is(tmp_path):
    (tmp_path / "mini.yaml").write_text(CONFIG)
    (tmp_path / "added.yaml").write_text(ADDED)

    def build(config: str, *options: str) -> TabularBenchmark:
        command = [sys.executable, str(BENCHMARKS / "build_table.py"), config, "mini.json.gz", "--seeds", "1"]
        done = subprocess.run([*command, "--workers", "1", *options], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return TabularBenchmark.load(tmp_path / "mini.json.gz")

    before = build("mini.yaml", "--architectures", "3")
    with_added = build("added.yaml", "--add", "1")
    assert (with_added.meta, with_added.rows) == (before.meta, before.rows)
    assert with_added.added is not None
    assert with_added.added.meta["networks of each added value"] == 1
    assert with_added.added.meta["command"].endswith("tables/added.yaml --add 1")
    # A rebuilt table keeps what was added to it, and additions that are there are not trained again.
    rebuilt = build("mini.yaml", "--architectures", "4")
    assert (len(rebuilt.rows), rebuilt.added) == (4, with_added.added)
    (tmp_path / "runs" / "tables" / "mini-added.jsonl").unlink()
    again = build("added.yaml", "--add", "1").added
    assert again is not None
    assert again.rows == with_added.added.rows


def test_what_a_table_holds_is_not_trained_again(build_table, tmp_path):
    rows = (*row(10, 0.50), *row(20, 0.4, 0.45))
    book = build_table.Workbook(tmp_path / "work" / "mini.jsonl", rows)
    assert book.done == {(r.config.id, r.seed) for r in rows}
    again = build_table.Workbook(tmp_path / "work" / "mini.jsonl")
    assert again.rows == book.rows
