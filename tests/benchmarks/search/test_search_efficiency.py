"""benchmarks/search/search_efficiency.py: what is compared, ratios with their intervals, results that are kept."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from mgnas.search.history.past_trainings import shipped_tables
from mgnas.search.history.table import TabularBenchmark
from mgnas.search.simulation.simulator import simulate

BENCHMARKS = Path(__file__).parents[3] / "benchmarks" / "search"


sys.path.insert(0, str(BENCHMARKS))
import compared  # noqa: E402
import efficiency_report  # noqa: E402
from compared import BASE  # noqa: E402

INF = math.inf


def entries(*until: float) -> dict:
    """Searches that reached every share after so many epochs."""
    return {
        str(seed): {"until": [None if math.isinf(n) else n] * 3, "shares": [0.5] * 10} for seed, n in enumerate(until)
    }


def test_the_ratio_of_equal_searches_is_1():
    assert efficiency_report.ratio([10.0] * 5, [10.0] * 5) == (1.0, 1.0, 1.0)


def test_the_ratio_of_the_medians_lies_in_its_interval():
    factor, low, high = efficiency_report.ratio([20.0, 40.0, 60.0, 80.0, 100.0], [8.0, 9.0, 10.0, 11.0, 12.0])
    assert factor == 6.0
    assert 20 / 12 <= low < 6 < high <= 100 / 8


def test_searches_that_did_not_arrive_count_as_endless():
    assert efficiency_report.ratio([10.0, INF, INF], [10.0] * 3)[0] == INF
    assert efficiency_report.ratio([10.0] * 3, [INF] * 3)[0] == 0.0
    assert math.isnan(efficiency_report.ratio([INF] * 3, [INF] * 3)[0])
    assert efficiency_report.ratio([10.0, 20.0, INF], [10.0] * 3)[0] == 2.0


def test_the_best_peer_is_the_one_with_the_smallest_median():
    found = {
        "random": entries(90, 10, 80),
        "tpe": entries(50, 60, 70),
        "nsga2": entries(20, INF, INF),
        BASE: entries(1),
    }
    assert efficiency_report.best_peer(found, 0.9) == "tpe"


def test_targets_are_met_or_missed():
    found = {
        BASE: entries(10, 10, 10),
        "tpe as it is": entries(49, 49, 49),
        "random": entries(30, 30, 30),
        "ehvi": entries(20, 20, 20),
    }
    lines = "\n".join(efficiency_report._targets(found))
    assert "| against TPE as it is, 90 %: at most 0.20 | 0.20 (0.20 to 0.20) missed |" in lines
    assert "| against random, 95 %: at most 0.33 | 0.33 (0.33 to 0.33) met |" in lines
    assert "| with the other table as prior against none, 90 %: at most 0.50 | 0.50 (0.50 to 0.50) met |" in lines


@pytest.mark.parametrize("part", ["modelled cost", "mo-asha", "pausing, silent curves"])
def test_the_search_with_a_part_changed_can_be_replayed(part):
    name = f"{BASE}, {part}"
    table = TabularBenchmark.load(shipped_tables()["digits"])
    search = compared.COMPARED[name].factory(table, table.space(), 0)
    replay = simulate(table, search, compared.COMPARED[name].workers, until=8 * table.epochs)
    assert len(replay.completions) >= 2
    trained = [record.candidate.id for record in search.records]
    assert len(set(trained)) == len(trained)


@pytest.mark.slow
def test_results_are_kept_and_not_replayed_again(tmp_path):
    """The script writes into the folder beside its own, so a copy of it runs elsewhere."""
    folder = tmp_path / "search"
    folder.mkdir()
    for name in ("search_efficiency", "bounds", "compared", "efficiency_report", "mo_asha", "peers"):
        (folder / f"{name}.py").write_text((BENCHMARKS / f"{name}.py").read_text())
    table = next(iter(shipped_tables()))

    def run(*options: str) -> str:
        command = [sys.executable, "search_efficiency.py", "--tables", table, "--searches", "random", "--jobs", "1"]
        done = subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        return done.stdout

    stored = tmp_path / "results" / "search_efficiency.jsonl"
    assert f"{table}: random: 2 searches" in run("--seeds", "2")
    first = [json.loads(line) for line in stored.read_text().splitlines()]
    assert [line[:3] for line in first] == [[table, "random", 0], [table, "random", 1]]
    # To 99 % each of them, which takes most of a table of 300 networks.
    assert all(0.99 <= entry["final"] <= 1 and entry["trials"] > 50 for *_, entry in first)
    assert ": random: " not in run("--seeds", "2")
    assert "random: 1 searches" in run("--seeds", "1", "--fresh")
    assert [json.loads(line) for line in stored.read_text().splitlines()] == first[:1]
    assert "| random | 1 |" in (tmp_path / "results" / "search_efficiency.md").read_text()
