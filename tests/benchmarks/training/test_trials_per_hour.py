"""benchmarks/training/trials_per_hour.py: what it computes, and that it ends when a trial fails."""

import multiprocessing
import time

import pytest
import trials_per_hour


def test_processes_that_wait_for_a_failed_one_are_ended():
    context = multiprocessing.get_context("fork")
    waiting = context.Process(target=time.sleep, args=(60,))
    failing = context.Process(target=exec, args=("raise SystemExit(3)",))
    start = time.monotonic()
    for process in (waiting, failing):
        process.start()
    with pytest.raises(RuntimeError, match="one of 2 trials ended with status 3"):
        trials_per_hour.wait_for_all([waiting, failing])
    assert time.monotonic() - start < 30
    assert not waiting.is_alive()


@pytest.mark.slow
def test_trials_at_a_time(run_benchmark):
    rows = run_benchmark("trials_per_hour.py", "--at-once", "1", "2", "--epochs", "1")
    assert [(row["trials at a time"], row["threads per trial"]) for row in rows] == [(1, 1), (2, 1)]
    for row in rows:
        hourly = 3600 * row["trials at a time"] / row["seconds per trial"]
        assert row["trials per hour"] == pytest.approx(hourly, rel=0.5)
