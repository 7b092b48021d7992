"""benchmarks/training/settings_speed.py: what is compared, in turns, and the row of a case."""

import argparse

import pytest
import settings_speed
from settings_speed import SPEED_CASES, row, seconds_in_turns

from mgnas.search.training.trainer import EpochResult, Trainer


class Recorder(Trainer):
    """Notes when it is called, and trains nothing."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name, self.calls = name, calls

    def run_epoch(self) -> EpochResult:
        self.calls.append(self.name)
        return EpochResult(1, 0.0, None, 0.0)


def recorders(calls: list[str]) -> dict[str, Trainer]:
    return {name: Recorder(name, calls) for name in "abc"}


def test_cases_take_turns_after_one_epoch_that_does_not_count():
    calls: list[str] = []
    seconds = seconds_in_turns(recorders(calls), 3)
    assert "".join(calls) == "abc" + "cba" + "abc" + "cba"
    assert [len(own) for own in seconds.values()] == [3, 3, 3]


def test_each_case_has_a_repetition_however_short_the_time():
    seconds = seconds_in_turns(recorders([]), 3, minutes=0)
    assert [len(own) for own in seconds.values()] == [1, 1, 1]


def test_no_two_cases_are_the_same():
    assert len({(case.architecture.id, case.size) for case in SPEED_CASES.values()}) == len(SPEED_CASES)


@pytest.mark.parametrize(
    ("kernel", "weights"),
    [
        # Of A and B on the grouped levels of 32 and 64 channels, where each channel has kernel^2 weights of its own.
        (5, 2 * 16 * (32 + 64)),
        (7, 2 * 40 * (32 + 64)),
    ],
)
def test_kernels_cost_what_they_should(kernel, weights):
    costs = {
        size: settings_speed.total_cost(SPEED_CASES[f"mgiad-g1-{size}x{size}"].architecture, 32).weights
        for size in (3, kernel)
    }
    assert costs[kernel] - costs[3] == weights


def test_the_row_of_a_case():
    options = argparse.Namespace(steps=2, batch=None)
    # 256 images in 0.5, 1 and 2 s; quartiles in the middle between them.
    made = row("mgnet", "float32", [1.0, 2.0, 0.5], options)
    assert made["images/s (quartiles)"] == "256 (192 to 384)"
    macs = settings_speed.total_cost(SPEED_CASES["mgnet"].architecture, 32).macs
    assert float(made["GMACs/s"]) == pytest.approx(256 * macs / 1e9, abs=0.05)


@pytest.mark.slow
def test_the_script_measures_a_case(run_benchmark):
    (measured,) = run_benchmark("settings_speed.py", case="mgnet-stem-4")
    assert measured["case"] == "mgnet-stem-4"
