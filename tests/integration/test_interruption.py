"""A search in a process of its own: Ctrl-C, a killed driver, and what `resume` makes of them."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from mgnas.search.storage.run_directory import RunDirectory
from mgnas.search.trial_record import TrialState

CONFIG = """
data: {name: digits}
space:
  fixed: {family: mgnet}
  parameters:
    base_channels: [[4], [8], [12], [16], [4, 8], [8, 8], [8, 16]]
training: {epochs: 8, batch_size: 64}
search: {trials: 5}
resources: {workers: 2}
"""


def start(*arguments, **options):
    command = [sys.executable, "-m", "mgnas.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def wait_for_checkpoints(run: Path, process) -> None:
    """Until a trial is complete and another in the middle of its epochs."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (run / "clock.json").exists() and list((run / "trials").glob("*.pt")):
            return
        if process.poll() is not None:
            pytest.fail(f"the search ended early: {process.stdout.read()}")
        time.sleep(0.05)
    pytest.fail("no trial got under way")


def interrupted(tmp_path: Path, how: signal.Signals):
    config = tmp_path / "small.yaml"
    config.write_text(CONFIG)
    run = tmp_path / "runs" / "small-1"
    process = start("search", config, "--runs", tmp_path / "runs")
    wait_for_checkpoints(run, process)
    process.send_signal(how)
    output, _ = process.communicate(timeout=60)
    return run, process.returncode, output


def assert_resumes_to_the_end(run: Path, before: list) -> None:
    done = {record.number: record for record in before if record.state is TrialState.COMPLETE}
    process = start("resume", run)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    records = RunDirectory(run).load()
    assert [record.state for record in records] == [TrialState.COMPLETE] * 5
    assert len({record.candidate.id for record in records}) == 5
    for number, record in done.items():
        assert records[number] == record
    for record in before:
        # What was running goes on under its number, with its seed, from the epochs it had.
        assert records[record.number].seed == record.seed
        assert records[record.number].candidate.id == record.candidate.id
        assert records[record.number].curve[: len(record.curve)] == record.curve
    assert (run / "report" / "report.html").exists()
    assert f"Report: {run / 'report' / 'report.html'}" in output
    # Into a pipe or a file go plain lines.
    assert "\x1b" not in output
    assert re.search(r"^\[5/5.*\] trial \d: +\d+\.\d\d %", output, re.MULTILINE)
    assert "5 of 5 trials complete, 0 running, 0 paused, 0 failed" in output


def test_ctrl_c_leaves_a_resumable_run(tmp_path):
    run, code, output = interrupted(tmp_path, signal.SIGINT)
    assert code == 130
    assert f"Continue with: mgnas resume {run}" in output
    assert "Traceback" not in output
    assert "\x1b" not in output
    before = RunDirectory(run).load()
    assert any(record.state is TrialState.RUNNING for record in before)
    assert_resumes_to_the_end(run, before)


@pytest.mark.slow
def test_killed_driver_leaves_a_resumable_run(tmp_path):
    run, code, _ = interrupted(tmp_path, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert_resumes_to_the_end(run, RunDirectory(run).load())


def raylet_of(process: subprocess.Popen) -> int | None:
    """The process id of the raylet that a search has started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if name == "raylet" and int(rest.split()[1]) == process.pid:
            return int(folder.name)
    return None


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the raylet in /proc")
def test_a_killed_raylet_ends_the_search_with_a_line_and_leaves_nothing_in_its_folder(tmp_path):
    (tmp_path / "small.yaml").write_text(CONFIG.replace("epochs: 8", "epochs: 500"))
    run = tmp_path / "runs" / "small-1"
    with tempfile.TemporaryDirectory(prefix="m", dir="/tmp") as folder:
        environment = os.environ | {"TMPDIR": folder}
        process = start("search", tmp_path / "small.yaml", "--runs", tmp_path / "runs", env=environment)
        deadline = time.monotonic() + 120
        while not (run / "journal.jsonl").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (private,) = Path(folder).glob("mgnas-r-*")
        assert private.stat().st_mode & 0o777 == 0o700
        raylet = raylet_of(process)
        assert raylet is not None
        os.kill(raylet, signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
        assert list(Path(folder).glob("mgnas-r-*")) == []
    assert process.returncode == 1
    error = "mgnas: error: Ray's main process on this machine (raylet) has died, perhaps for lack of memory"
    assert output.splitlines()[-1] == f"{error}; continue with: mgnas resume {run}"
    assert len(output.splitlines()) <= 4
