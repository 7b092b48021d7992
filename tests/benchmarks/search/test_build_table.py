"""Building tables: which architectures, which are near the front, and that nothing is trained twice."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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

    assert "6 of 8 architectures, 0 trainings done already" in build(1)
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


def test_what_a_table_holds_is_not_trained_again(build_table, tmp_path):
    rows = (*row(10, 0.50), *row(20, 0.4, 0.45))
    TabularBenchmark(
        {"name": "mini"}, tuple(TableRow(r.config, count_weights(r.config), *list(vars(r).values())[2:]) for r in rows)
    ).save(tmp_path / "mini.json")
    book = build_table.Workbook(tmp_path / "work" / "mini.jsonl", tmp_path / "mini.json")
    assert book.done == {(r.config.id, r.seed) for r in rows}
    again = build_table.Workbook(tmp_path / "work" / "mini.jsonl")
    assert again.rows == book.rows
