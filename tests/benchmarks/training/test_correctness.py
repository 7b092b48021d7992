"""benchmarks/training/correctness.py: it notices trainings that are wrong."""

import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import correctness
import pytest
import torch
from correctness import Check
from steps import Context


@pytest.fixture
def check():
    torch.use_deterministic_algorithms(True)
    yield Check("cpu", tiny=True)
    torch.use_deterministic_algorithms(False)


def test_the_distance_is_a_share_of_the_way_from_the_start():
    start, end = torch.zeros(2), torch.tensor([3.0, 4.0])
    assert correctness.distance(end, end, start) == 0
    assert correctness.distance(torch.tensor([3.0, 3.0]), end, start) == pytest.approx(0.2)


def test_a_correct_training_passes(check):
    row = check.network("mgnet-AB", "float32", [])
    assert row["verdict"] == "ok"
    assert "failure" not in row


def test_a_wrong_execution_is_noticed(check):
    """It trains with a tenth of the learning rate."""
    trained = Check.trained

    def wrong(self, name, precision, execution="eager", perturbed=False):
        if execution == "eager":
            return trained(self, name, precision, execution, perturbed)
        with patch.object(correctness, "_RECIPE", replace(correctness._RECIPE, learning_rate=0.01)):
            return trained(self, name, precision, "eager", perturbed)

    with patch.object(Check, "trained", wrong):
        assert check.network("mgnet-AB", "float32", ["cuda-graphs"])["failure"] == "cuda-graphs differs from eager"
        assert check.network("mgnet-AB", "bfloat16", ["cuda-graphs"])["failure"] == "cuda-graphs differs from eager"


def test_a_training_that_differs_every_time_is_noticed(check):
    trained, calls = Check.trained, []

    def random(self, name, precision, execution="eager", perturbed=False):
        calls.append(1)
        return trained(self, name, precision, execution, perturbed=len(calls) == 3)

    with patch.object(Check, "trained", random):
        assert "not deterministic" in check.network("mgnet-AB", "float32", [])["failure"]


def test_memory_that_does_not_run_out_is_noticed(check):
    with patch.dict(correctness.PLACES, forward=(lambda trainer: nullcontext(), "eager")):
        assert check.out_of_memory("forward")["failure"] == "memory did not run out"


def test_every_network_has_a_job_in_every_type_and_compiling_comes_last(check, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    before = torch.backends.cudnn.allow_tf32
    names = list(correctness.jobs(Context("cuda", False, None, "", 0.0, Path("unused"))))
    torch.backends.cudnn.allow_tf32 = before
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8", "without it cuBLAS is not deterministic"
    for network in correctness.NETWORKS:
        for precision in ("float32", "bfloat16", "float16"):
            assert f"{network}, {precision}" in names
    assert len(correctness.NETWORKS) == 7
    assert "compile" in names[-1]
