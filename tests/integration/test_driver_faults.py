"""Searches in processes of their own: killed at any moment, two at once, on disks that fail, with damaged files."""

import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from mgnas.reports.analysis.pareto import pareto_front
from mgnas.search.data.dataset import load_dataset
from mgnas.search.storage.journal import Journal
from mgnas.search.storage.run_directory import RunDirectory
from mgnas.search.training.trainer import Trainer
from mgnas.search.trial_record import TrialState

CONFIG = """
data: {name: digits}
space:
  fixed: {family: mgnet}
  parameters: {base_channels: [[4], [8], [12], [4, 8], [8, 8]]}
training: {epochs: 8, batch_size: 64}
search: {trials: 5, sampler: random}
resources: {workers: 2}
"""
PATIENCE = 240


class Search:
    """One run and the processes that search in it."""

    def __init__(self, folder: Path) -> None:
        self.config, self.path = folder / "small.yaml", folder / "runs" / "small-1"
        self.config.write_text(CONFIG)
        self.processes: list[subprocess.Popen] = []

    def start(self, *arguments) -> subprocess.Popen:
        command = [sys.executable, "-m", "mgnas.cli", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.processes.append(subprocess.Popen(command, **pipes))
        return self.processes[-1]

    def search(self) -> subprocess.Popen:
        return self.start("search", self.config, "--runs", self.path.parent)

    def resume(self, *arguments) -> str:
        process = self.start("resume", self.path, *arguments)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
        return output

    def wait_until(self, condition, process) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def half_done(self) -> bool:
        """One trial has ended and another is in the middle of its epochs."""
        return (self.path / "clock.json").exists() and bool(list((self.path / "trials").glob("[0-9]*.pt")))

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.communicate()


@pytest.fixture
def small(tmp_path):
    search = Search(tmp_path)
    yield search
    search.stop()


@pytest.fixture(scope="module")
def undisturbed():
    """(candidate, seed) -> the curve of its training when nothing happens to it."""
    known = {}

    def curve(run, record) -> list[float]:
        key = (record.candidate.id, record.seed)
        if key not in known:
            dataset, candidate = load_dataset(run.config.data), record.candidate
            parts = (dataset.train, dataset.validation)
            training = Trainer(candidate.architecture, candidate.training, *parts, record.seed)
            known[key] = [training.run_epoch().accuracy for _ in range(candidate.training.epochs)]
        return known[key]

    return curve


def assert_nothing_lost(small: Search, undisturbed, before=()) -> None:
    """All trials are complete with the curves of undisturbed trainings, and no half-written file is left."""
    run = RunDirectory(small.path)
    records = run.load()
    assert [record.state for record in records] == [TrialState.COMPLETE] * 5, [record.reason for record in records]
    # Five trials in a space of five: the ids are those of any undisturbed search.
    assert {record.candidate.id for record in records} == {candidate.id for candidate in run.space.enumerate()}
    for record in records:
        assert record.curve == undisturbed(run, record)
    for record in before:
        assert records[record.number].candidate.id == record.candidate.id
        if record.state is TrialState.COMPLETE:
            assert records[record.number] == record
        else:
            assert records[record.number].curve[: len(record.curve)] == record.curve
    with sqlite3.connect(small.path / "study.db") as connection:
        assert connection.execute("select count(*) from trials where state = 'RUNNING'").fetchone() == (0,)
    front = [record.number for record in pareto_front(records)]
    assert [row["trial"] for row in json.loads((small.path / "report" / "front.json").read_text())] == front
    left = [path.name for path in small.path.rglob("*") if path.name.startswith(".") or path.suffix == ".tmp"]
    assert left == []
    assert list((small.path / "trials").iterdir()) == []


def kill_at_random(small: Search, seed: int) -> list:
    """Kill the driver somewhere between its first trial's start and its end, and again while it resumes."""
    moments = random.Random(seed)
    process = small.search()
    small.wait_until(lambda: (small.path / "journal.jsonl").exists(), process)
    for again in (True, False):
        time.sleep(moments.uniform(0, 12))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        if again and moments.random() < 0.5:
            process = small.start("resume", small.path)
        else:
            break
    return RunDirectory(small.path).load()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_driver_killed_at_any_moment_loses_nothing(small, undisturbed, seed):
    before = kill_at_random(small, seed)
    small.resume()
    assert_nothing_lost(small, undisturbed, before)


@pytest.mark.slow
def test_a_second_driver_is_refused_and_a_dead_ones_lock_is_taken_over(small, undisturbed):
    process = small.search()
    small.wait_until(small.half_done, process)
    process.send_signal(signal.SIGSTOP)  # Otherwise it could come to its end before the others have begun.
    second = small.start("resume", small.path)
    output, _ = second.communicate(timeout=PATIENCE)
    assert second.returncode == 2
    who = f"process {process.pid} on {socket.gethostname()} is searching here already"
    assert output == f"mgnas: error: {small.path}: {who}; wait for it, or stop it with Ctrl-C\n"
    assert process.poll() is None
    status, _ = small.start("status", small.path).communicate(timeout=PATIENCE)
    assert f"Searching there now: process {process.pid} on {socket.gethostname()}" in status
    process.kill()
    process.communicate(timeout=60)
    assert (small.path / "driver.json").exists()  # The dead one's, which stops nobody.
    before = RunDirectory(small.path).load()
    small.resume()
    assert_nothing_lost(small, undisturbed, before)
    assert not (small.path / "driver.json").exists()


@pytest.mark.slow
def test_ctrl_c_twice_stops_at_once(small, undisturbed):
    process = small.search()
    small.wait_until(small.half_done, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert f"Continue with: mgnas resume {small.path}" in output
    assert "Traceback" not in output
    before = RunDirectory(small.path).load()
    small.resume()
    assert_nothing_lost(small, undisturbed, before)


@pytest.mark.slow
def test_sigterm_stops_after_saving(small, undisturbed):
    process = small.search()
    small.wait_until(small.half_done, process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    before = RunDirectory(small.path).load()
    small.resume()
    assert_nothing_lost(small, undisturbed, before)


# ---------------------------------------------------------------------------------------------------------------- disks


@pytest.fixture
def tiny_disk(tmp_path):
    """A disk of 4 MB where the runs are."""
    folder = tmp_path / "runs"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("needs the right to mount a disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def assert_one_line_and_resumable(output: str, code: int, small: Search) -> None:
    assert code == 1, output
    *_, last = output.splitlines()
    assert last.startswith("mgnas: error: ")
    assert last.endswith(f"mend that, then continue with: mgnas resume {small.path}")
    assert "Traceback" not in output


@pytest.mark.slow
def test_a_full_disk_stops_the_search_until_there_is_room(tiny_disk, small, undisturbed):
    process = small.search()
    small.wait_until(small.half_done, process)
    filler = tiny_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    output, _ = process.communicate(timeout=PATIENCE)
    assert_one_line_and_resumable(output, process.returncode, small)
    assert re.search("No space left on device|database or disk is full", output)
    before = RunDirectory(small.path).load()
    filler.unlink()
    small.resume()
    assert_nothing_lost(small, undisturbed, before)


@pytest.mark.slow
def test_a_run_directory_that_vanishes_stops_the_search(small, undisturbed):
    process = small.search()
    small.wait_until(small.half_done, process)
    away = small.path.with_name("away")
    small.path.rename(away)
    output, _ = process.communicate(timeout=PATIENCE)
    assert_one_line_and_resumable(output, process.returncode, small)
    assert not small.path.exists()
    away.rename(small.path)
    before = RunDirectory(small.path).load()
    small.resume()
    assert_nothing_lost(small, undisturbed, before)


@pytest.mark.slow
def test_a_run_directory_that_becomes_read_only_stops_the_search(small, undisturbed):
    process = small.search()
    small.wait_until(small.half_done, process)
    folders = [str(small.path), str(small.path / "trials")]
    if subprocess.run(["chattr", "+i", *folders], capture_output=True, check=False).returncode:
        pytest.skip("needs a disk where folders can be made immutable")
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        subprocess.run(["chattr", "-i", *folders], check=True)
    assert_one_line_and_resumable(output, process.returncode, small)
    before = RunDirectory(small.path).load()
    small.resume()
    assert_nothing_lost(small, undisturbed, before)


# ------------------------------------------------------------------------------------------- damaged and edited files


@pytest.fixture(scope="module")
def seven_resumed() -> list[Path]:
    """The run directory of `seven`, once a test has made it."""
    return []


@pytest.fixture
def seven(command, ended_run, seven_resumed, tmp_path, tmp_path_factory):
    """A run whose trials have all ended, and that has been opened to go on once."""
    if not seven_resumed:
        assert command("resume", ended_run.path, "--trials", 7)[0] == 0
        seven_resumed.append(shutil.copytree(ended_run.path, tmp_path_factory.mktemp("seven") / "run"))
    return RunDirectory(shutil.copytree(seven_resumed[0], tmp_path / "seven" / ended_run.path.name))


@pytest.mark.parametrize("damage", ["truncated", "zeros", "gone", "page"])
def test_a_damaged_study_is_rebuilt_without_a_loss(command, seven, damage):
    before, path = seven.load(), seven.path / "study.db"
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "zeros":
        path.write_bytes(bytes(len(content)))
    else:  # In the middle, so that the file still looks like a database.
        path.write_bytes(content[:4096] + os.urandom(16384) + content[20480:])
    code, _, err = command("status", seven.path)
    assert code == 2
    assert f"`mgnas resume {seven.path}` rebuilds it from journal.jsonl" in err
    code, out, _ = command("resume", seven.path)
    assert code == 0
    assert "rebuilt from journal.jsonl with 7 trials, 7 of them ended, nothing of them is lost" in out
    assert RunDirectory(seven.path).load() == before
    assert bool(list(seven.path.glob("study.damaged-*.db"))) is (damage != "gone")


def test_a_journal_that_was_cut_short_loses_its_last_line_alone(seven):
    before, path = seven.load(), seven.path / "journal.jsonl"
    whole, journal = path.read_bytes(), Journal(path)
    assert journal.read(seven.space) == before
    path.write_bytes(whole[:-20])
    records = journal.read(seven.space)
    assert records[:-1] == before[:-1]
    assert records[-1].state is TrialState.RUNNING
    path.write_bytes(whole.replace(b'"event":"end","number":2', b'"event":"\xff\0"', 1))
    assert [record.number for record in journal.read(seven.space)] == list(range(7))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("data", "validation_fraction", 0.3),
        ("data", "split_seed", 1),
        ("training", "epochs", 4),
        ("training", "learning_rate", 0.05),
        ("search", "seed", 7),
        ("search", "sampler", "tpe"),
        ("resources", "precision", "bfloat16"),
        ("space", "limits", {"max_weights": "1M"}),
    ],
)
def test_a_config_edited_so_that_trials_mean_something_else_is_refused(command, seven, section, key, value):
    edit(seven.path, section, key, value)
    code, out, err = command("resume", seven.path, "--trials", 8)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"config.yaml: {section}.{key}" in err
    assert "for this run's trials and is" in err
    assert command("status", seven.path)[0] == 0


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("search", "trials", 7),
        ("search", "loggers", []),
        ("resources", "workers", 3),
        ("resources", "time_limit", 60.0),
        ("resources", "cpus_per_trial", 2),
        ("final_training", "epochs", 9),
    ],
)
def test_what_changes_no_trial_may_be_edited(command, seven, section, key, value):
    edit(seven.path, section, key, value)
    assert command("resume", seven.path)[0] == 0


def edit(path: Path, section: str, key: str, value) -> None:
    content = yaml.safe_load((path / "config.yaml").read_text())
    content[section][key] = value
    (path / "config.yaml").write_text(yaml.safe_dump(content))


def test_other_images_are_refused(command, tmp_path, write_images):
    path = write_images(0)
    config = tmp_path / "own.yaml"
    content = yaml.safe_load(CONFIG) | {"data": {"name": "npz", "path": str(path)}}
    config.write_text(yaml.safe_dump(content))
    from mgnas.search.config import SearchConfig

    run = RunDirectory.create(SearchConfig.load(config), tmp_path / "runs")
    run.check_data(load_dataset(run.config.data))
    write_images(1)
    load_dataset.cache_clear()  # As in a new process.
    code, _, err = command("resume", run.path)
    assert code == 2
    assert "data.path: the images are not those that this run's trials learned from" in err


@pytest.fixture
def write_images(tmp_path):
    import numpy as np

    def write(seed: int) -> Path:
        rng = np.random.default_rng(seed)
        images = rng.integers(0, 256, (40, 8, 8), dtype=np.uint8)
        np.savez(tmp_path / "images.npz", train_images=images, train_labels=np.arange(40) % 4)
        return tmp_path / "images.npz"

    return write
