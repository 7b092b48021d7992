"""benchmarks/search_efficiency.py: ratios with their intervals, results that are kept, the written table."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from mgnas.search.trainings import shipped_tables

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def efficiency():
    sys.path.insert(0, str(BENCHMARKS))
    import search_efficiency

    yield search_efficiency
    sys.path.remove(str(BENCHMARKS))


def test_the_ratio_of_equal_searches_is_1(efficiency):
    assert efficiency.ratio([10.0] * 5, [10.0] * 5) == (1.0, 1.0, 1.0)


def test_the_ratio_of_the_medians_lies_in_its_interval(efficiency):
    factor, low, high = efficiency.ratio([20.0, 40.0, 60.0, 80.0, 100.0], [8.0, 9.0, 10.0, 11.0, 12.0])
    assert factor == 6.0
    assert 20 / 12 <= low < 6 < high <= 100 / 8


def test_searches_that_did_not_arrive_count_as_endless(efficiency):
    assert efficiency.ratio([10.0, math.inf, math.inf], [10.0] * 3)[0] == math.inf
    assert math.isnan(efficiency.ratio([10.0] * 3, [math.inf] * 3)[0])
    assert efficiency.ratio([10.0, 20.0, math.inf], [10.0] * 3)[0] == 2.0


def test_results_are_kept_and_not_replayed_again(tmp_path):
    """The script works on its own folder's results, so a copy of it runs elsewhere."""
    for name in ("search_efficiency.py", "peers.py"):
        (tmp_path / name).write_text((BENCHMARKS / name).read_text())
    table = next(iter(shipped_tables()))

    def run(*options: str) -> str:
        command = [sys.executable, "search_efficiency.py", "--tables", table, "--trials", "12", "--jobs", "1", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        return done.stdout

    out = run("--seeds", "2", "--strategies", "random")
    assert f"{table}: random: 2 of 2 searches" in out
    stored = json.loads((tmp_path / "results" / "search_efficiency.json").read_text())
    (searches,) = stored[table].values()
    assert set(searches) == {"0", "1"}
    # The thirteenth has been handed out when the epochs of twelve are over.
    assert all(entry["trials"] == 13 and 0 <= entry["final"] <= 1 for entry in searches.values())
    assert "searches" not in run("--seeds", "2", "--strategies", "random").splitlines()[0]
    assert "| random |" in (tmp_path / "results" / "search_efficiency.md").read_text()
