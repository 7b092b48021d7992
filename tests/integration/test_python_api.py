"""Searches from Python with a real Ray: silent, in threads and event loops, interrupted and resumed."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mgnas.search.storage.run_directory import RunDirectory
from mgnas.search.trial_record import TrialState

CONFIG = {
    "name": "small",
    "data": {"name": "digits", "train_images": 300},
    "space": {"fixed": {"family": "mgnet"}, "parameters": {"base_channels": [[4], [8], [4, 8]]}},
    "training": {"epochs": 2, "batch_size": 64},
    "search": {"sampler": "ehvi"},
    "final_training": {"epochs": 1},
}

SILENT = """
import asyncio, json, signal, sys, threading, warnings
import mgnas
warnings.simplefilter("error", ResourceWarning)
config, runs = json.loads(sys.argv[1]), sys.argv[2]
numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
before = [signal.getsignal(number) for number in numbers]

async def cell():
    return mgnas.run_search(config, trials=2, workers=2, runs=runs)

run = asyncio.run(cell())
assert [signal.getsignal(number) for number in numbers] == before
assert len(run.front) > 0

thread = threading.Thread(target=run.resume, kwargs={"trials": 3})
thread.start()
thread.join()
assert [trial.state for trial in run.trials] == ["complete"] * 3, run.trials
(retrained,) = run.retrain(run.select(prefer="accuracy"), seeds=1)
assert mgnas.load(retrained.folder / "seed-0").config == run.select(prefer="accuracy").record.candidate.architecture
run.report(latency_seconds=0)
"""

INTERRUPTED = """
import json, sys
import mgnas
config, runs = json.loads(sys.argv[1]), sys.argv[2]
try:
    mgnas.run_search(config, trials=3, workers=2, runs=runs)
except KeyboardInterrupt as interruption:
    print(interruption)
run = mgnas.open_run(f"{runs}/small-1")
print([trial.state.value for trial in run.trials])
run.resume()
print([trial.state.value for trial in run.trials])
"""

OWN_RAY = """
import json, sys
import mgnas, ray
config, runs = json.loads(sys.argv[1]), sys.argv[2]
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
try:
    mgnas.run_search(config, trials=1, runs=runs)
except mgnas.UserError as error:
    print(error)
print(ray.get(ray.put("still there")))
"""


def start(script, config, runs):
    command = [sys.executable, "-c", script, json.dumps(config), str(runs)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_nothing_is_printed_in_an_event_loop_or_in_a_thread(tmp_path):
    """Both streams are the process' own, so that what C++ code and child processes write would be seen, too."""
    process = start(SILENT, CONFIG, tmp_path / "runs")
    assert (*process.communicate(timeout=300), process.returncode) == ("", "", 0)


@pytest.mark.slow
def test_ctrl_c_reaches_the_program_and_leaves_a_resumable_run(tmp_path):
    config = CONFIG | {"training": {"epochs": 40, "batch_size": 16}}
    path = tmp_path / "runs" / "small-1"
    process = start(INTERRUPTED, config, path.parent)
    wait_for_checkpoint(path, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    message, first, last = out.splitlines()
    assert message == f"{path}: interrupted; continue with mgnas.open_run({str(path)!r}).resume()"
    assert "running" in first
    assert last == str(["complete"] * 3)
    assert [record.state for record in RunDirectory(path).load()] == [TrialState.COMPLETE] * 3


@pytest.mark.slow
def test_a_programs_own_ray_goes_on(tmp_path):
    process = start(OWN_RAY, CONFIG, tmp_path / "runs")
    out, _ = process.communicate(timeout=120)
    refusal, answer = out.splitlines()
    assert refusal.startswith("Ray is in use in this process")
    assert answer == "still there"


def wait_for_checkpoint(path: Path, process) -> None:
    """Until a trial is in the middle of its epochs."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if any(re.fullmatch(r"\d+\.pt", file.name) for file in path.glob("trials/*")):
            return
        if process.poll() is not None:
            pytest.fail(f"the search ended early: {process.communicate()}")
        time.sleep(0.05)
    pytest.fail("no trial got under way")
