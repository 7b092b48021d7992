"""benchmarks/training/roofline.py, throughput.py, trials_per_hour.py: what they count, and that they run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mgnas.models import count_macs

BENCHMARKS = Path(__file__).parents[3] / "benchmarks" / "training"


@pytest.fixture(scope="module")
def roofline():
    sys.path.insert(0, str(BENCHMARKS))
    import roofline

    yield roofline
    sys.path.remove(str(BENCHMARKS))


def test_traffic_is_operands_and_results_of_both_passes_without_views(roofline):
    x, y = torch.ones(1000, requires_grad=True), torch.ones(1000)
    with roofline.Traffic() as traffic:
        product = x.view(10, 100) * y.view(10, 100)
    assert traffic.bytes == 3 * 4000
    with roofline.Traffic() as traffic:
        product.backward(torch.ones(10, 100))
    # The gradient is made by `ones`, multiplied with y, and kept as the gradient of x, as a view.
    assert traffic.bytes == 4000 + 3 * 4000


def run_benchmark(script, folder, *arguments):
    """Its rows."""
    command = [sys.executable, BENCHMARKS / script, "--cases", "digits-mgnet", "--steps", "2", "--threads", "1"]
    subprocess.run([*command, "--repetitions", "1", "--output", folder / "out", *arguments], check=True, timeout=300)
    assert (folder / "out.md").read_text().startswith("| case |")
    return json.loads((folder / "out.json").read_text())["results"]


@pytest.mark.slow
def test_the_limits_of_a_case(roofline, tmp_path):
    from cases import CASES

    (row,) = run_benchmark("roofline.py", tmp_path)
    assert (row["case"], row["mgnas computes in"]) == ("digits-mgnet", "float32")
    work = 6 * count_macs(CASES["digits-mgnet"].architecture, 8)
    assert row["GFLOP/s"] == pytest.approx(work * row["images/s"] / 1e9, abs=0.06)
    kinds = (*roofline._OPERATIONS, "others")
    assert sum(row[f"{kind} %"] for kind in kinds) == pytest.approx(100, abs=0.5)


@pytest.mark.slow
def test_trials_at_a_time(tmp_path):
    rows = run_benchmark("trials_per_hour.py", tmp_path, "--at-once", "1", "2", "--epochs", "1")
    assert [(row["trials at a time"], row["threads per trial"]) for row in rows] == [(1, 1), (2, 1)]
    for row in rows:
        hourly = 3600 * row["trials at a time"] / row["seconds per trial"]
        assert row["trials per hour"] == pytest.approx(hourly, rel=0.5)


@pytest.mark.slow
def test_both_recipes_side_by_side(tmp_path):
    (row,) = run_benchmark("throughput.py", tmp_path, "--loader-workers", "0")
    assert row["ratio"] == pytest.approx(row["mgnas images/s"] / row["plain images/s"], rel=0.05)
