"""A step on a GPU that is not there: what it takes from the host, and whether its types and devices fit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module", params=["", pytest.param("--all", marks=pytest.mark.slow)])
def runs(request) -> list[dict]:
    """All networks and recipes, each in one of three precisions or in all of them (fake_gpu.py)."""
    script = Path(__file__).with_name("fake_gpu.py")
    result = subprocess.run([sys.executable, str(script), request.param], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_every_network_trains_in_every_precision(runs):
    assert len(runs) in (12, 12 * 3)
    assert {run["precision"] for run in runs} == {"float32", "bfloat16", "float16"}
    for run in runs:
        # 3 steps, and the one whose operations were noted.
        assert run["losses"] == [["cuda", "torch.float32"]] * 4
        optimizer = "sgd" if run["recipe"] == "plain" else "adamw"
        assert f"aten._fused_{optimizer}_.tensor_lr" in run["operations"]
        assert ("aten._amp_update_scale_.default" in run["operations"]) == (run["precision"] == "float16")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_an_epoch_takes_its_choices_and_rates_from_the_host_and_a_step_takes_nothing(runs):
    for run in runs:
        # Mixing has its shares, too.
        copies = 2 if run["recipe"] == "plain" else 3
        assert run["epoch"] == ["aten.copy_.default"] * copies, run["network"]
        assert run["step"] == [], run["network"]
        assert "aten._local_scalar_dense.default" not in run["operations"], "a step must not wait for the GPU"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_evaluation_takes_nothing_from_the_host(runs):
    assert all((run["evaluation"], run["correct on"]) == ([], "cuda") for run in runs)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_shared_weights_are_converted_together(runs, precision):
    for run in runs:
        if run["precision"] == precision and run["network"].startswith(("mgnet", "mgiad")):
            assert run["operations"].count("aten._foreach_copy_.default") == 1, run["network"]
