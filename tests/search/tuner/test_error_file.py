"""What Ray's error files say about a lost worker: files that Ray wrote (error_files/README.md), and broken ones."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnas.search.tuner.error_file import read_error_file

FILES = Path(__file__).parent / "error_files"
DIED = "the worker died: The actor died unexpectedly before finishing this task."
LOW_ON_MEMORY = (
    "the worker died: 1 worker(s) were killed due to the node running low on memory. Memory on the node "
    "(IP: 127.0.0.1, ID: f2f57cf2fe113bee9d8ca98caaacea66bb73a86cdc120c59077d09ab) was 7.24GB used / 23.59GB limit "
    "(0.306991)"
)
EXPECTED = {
    "constructor": ("the worker died: ValueError: a bug in the constructor", False),
    "constructor_in_reused_worker": ("the worker died: ValueError: a bug in the constructor", False),
    "step": ("the worker died: ValueError: a bug in the worker", False),
    "worker_killed": (DIED, False),
    "worker_killed_twice": (DIED, False),
    "worker_exited": (DIED, False),
    "killed_by_time_limit": (DIED, False),
    "memory_monitor": (LOW_ON_MEMORY, False),
    "node_preempted": (DIED, True),
    "node_terminated": (DIED, True),
}
UNAVAILABLE = "is unavailable: The actor is temporarily unavailable: RpcError: RPC error: "
NO_REASON = ("the worker died: no reason known", False)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_fault_is_the_trials_or_the_machines(name):
    assert read_error_file(FILES / f"{name}.txt") == EXPECTED[name]


@pytest.mark.parametrize("name", ["node_killed", "node_killed_during_reset"])
def test_a_machine_that_vanishes_is_lost_before_ray_knows_it(name):
    reason, machine_lost = read_error_file(FILES / f"{name}.txt")
    assert reason.startswith("the worker died: The actor ")
    assert UNAVAILABLE in reason
    assert len(reason) <= 300
    assert machine_lost


def test_every_recorded_file_is_judged():
    names = {file.stem for file in FILES.glob("*.txt")}
    assert names == EXPECTED.keys() | {"node_killed", "node_killed_during_reset"}


def test_the_newest_failure_counts(tmp_path):
    file = tmp_path / "error.txt"
    parts = [(FILES / f"{name}.txt").read_text() for name in ("node_terminated", "step")]
    file.write_text("".join(parts))
    assert read_error_file(file) == EXPECTED["step"]
    file.write_text("".join(reversed(parts)))
    assert read_error_file(file) == EXPECTED["node_terminated"]


def test_an_exception_that_speaks_of_nodes_is_the_trials_fault(tmp_path):
    file = tmp_path / "error.txt"
    text = (FILES / "step.txt").read_text()
    file.write_text(text.replace("a bug in the worker", "the node was too deep, a leaf is unavailable"))
    assert read_error_file(file) == ("the worker died: ValueError: the node was too deep, a leaf is unavailable", False)


def test_a_lack_of_memory_is_the_trials_fault_whatever_programs_run_there(tmp_path):
    file = tmp_path / "error.txt"
    text = (FILES / "memory_monitor.txt").read_text()
    file.write_text(text.replace("python -m pytest", "preempt --because 'the node was slow'"))
    assert read_error_file(file) == (LOW_ON_MEMORY, False)


def test_a_file_that_is_missing_or_empty_knows_no_reason(tmp_path):
    assert read_error_file(None) == NO_REASON
    assert read_error_file(tmp_path / "none.txt") == NO_REASON
    assert read_error_file(tmp_path) == NO_REASON
    for content in ("", "\n\n", "Failure # 1 (occurred at 2026-11-26_15-17-47)\n"):
        (tmp_path / "error.txt").write_text(content)
        assert read_error_file(tmp_path / "error.txt") == NO_REASON


@given(st.binary(max_size=300), st.integers(0, 2000))
def test_a_garbled_file_gives_one_line(new_path, garbage, cut):
    file = new_path("error.txt")
    for content in (garbage, (FILES / "step.txt").read_bytes()[:cut] + garbage):
        file.write_bytes(content)
        reason, _ = read_error_file(file)
        assert reason.startswith("the worker died")
        assert len(reason.splitlines()) == 1
        assert len(reason) <= 300
